// Command hello is what two pods need to try the network between them: `hello serve` answers with its pod's name, and
// `hello ask URL` asks until it is answered.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "serve":
		serve()
	case len(os.Args) == 3 && os.Args[1] == "ask":
		ask(os.Args[2])
	default:
		fmt.Fprintln(os.Stderr, "usage: hello serve | hello ask URL")
		os.Exit(2)
	}
}

func serve() {
	name, err := os.Hostname()
	if err == nil {
		err = http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "hello from %s\n", name)
		}))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func ask(url string) {
	client := http.Client{Timeout: 2 * time.Second}
	for {
		response, err := client.Get(url)
		if err == nil && response.StatusCode == http.StatusOK {
			_, err = io.Copy(os.Stdout, response.Body)
			if err == nil {
				return
			}
		} else if err == nil {
			err = fmt.Errorf("%s", response.Status)
			response.Body.Close()
		}
		fmt.Fprintln(os.Stderr, err)
		time.Sleep(200 * time.Millisecond)
	}
}

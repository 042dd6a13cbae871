package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
)

// ports is a flag that may be given again and again.
type ports []int

func (p *ports) String() string { return fmt.Sprint(*p) }

func (p *ports) Set(text string) error {
	port, err := strconv.ParseUint(text, 10, 16)
	*p = append(*p, int(port))
	return err
}

// headers are "Name:value" each, in the order given.
type headers [][2]string

func (h *headers) String() string { return fmt.Sprint(*h) }

func (h *headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return fmt.Errorf("%q is no header: NAME:VALUE", text)
	}
	*h = append(*h, [2]string{name, strings.TrimSpace(value)})
	return nil
}

// parseWithURL takes one URL, before, between or after the flags.
func parseWithURL(flags *flag.FlagSet, args []string) (string, error) {
	var url string
	for {
		if err := flags.Parse(args); err != nil {
			return "", err
		}
		if flags.NArg() == 0 {
			break
		}
		if url != "" {
			return "", fmt.Errorf("%s after %s: one URL is asked for", flags.Arg(0), url)
		}
		url, args = flags.Arg(0), flags.Args()[1:]
	}
	if url == "" {
		return "", fmt.Errorf("which URL? http://, https://, grpc:// or tcp://HOST:PORT")
	}
	return url, nil
}

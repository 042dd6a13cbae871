package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// ask asks as often as it is told and prints each answer, a field a line, with an empty line between two. The first request
// that has no answer ends it; any status is an answer.
func ask(ctx context.Context, args []string) error {
	var given question
	flags := flag.NewFlagSet("ask", flag.ExitOnError)
	given.flags(flags)
	count := flags.Int("count", 1, "how many requests")
	target, err := parseWithURL(flags, args)
	if err != nil {
		return err
	}
	asker, err := given.to(target)
	if err != nil {
		return err
	}
	defer asker.close()
	for index := range max(*count, 1) {
		if index > 0 {
			fmt.Println()
		}
		answer, err := asker.ask(ctx)
		if err != nil {
			return err
		}
		fmt.Print(answer.text)
	}
	return nil
}

// question is what every request of a run is.
type question struct {
	method  string
	headers headers
	timeout time.Duration
	// A connection for each request.
	fresh bool
	h2    bool
}

func (q *question) flags(flags *flag.FlagSet) {
	flags.StringVar(&q.method, "method", http.MethodGet, "of HTTP")
	flags.Var(&q.headers, "H", "NAME:VALUE, again and again")
	flags.DurationVar(&q.timeout, "timeout", 10*time.Second, "for each request")
	flags.BoolVar(&q.fresh, "fresh", false, "a connection for each request")
	flags.BoolVar(&q.h2, "h2", false, "HTTP/2 with prior knowledge")
}

type answer struct {
	status int
	text   string
}

// asker asks one server again and again.
type asker interface {
	ask(ctx context.Context) (answer, error)
	close()
}

func (q *question) to(target string) (asker, error) {
	parsed, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	switch parsed.Scheme {
	case "http", "https":
		return q.http(parsed), nil
	case "grpc":
		return &caller{question: q, target: parsed.Host}, nil
	case "tcp":
		return &teller{question: q, target: parsed.Host}, nil
	}
	return nil, fmt.Errorf("%s: http://, https://, grpc:// or tcp:// is asked for", target)
}

// web asks by HTTP, and follows no redirect.
type web struct {
	*question
	target *url.URL
	client *http.Client
}

func (q *question) http(target *url.URL) *web {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!q.h2)
	protocols.SetUnencryptedHTTP2(q.h2)
	transport := &http.Transport{
		DisableKeepAlives: q.fresh,
		Protocols:         protocols,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &web{q, target, &http.Client{Transport: transport, CheckRedirect: stay, Timeout: q.timeout}}
}

func (w *web) ask(ctx context.Context) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, w.method, w.target.String(), nil)
	if err != nil {
		return answer{}, err
	}
	for _, header := range w.headers {
		if http.CanonicalHeaderKey(header[0]) == "Host" {
			request.Host = header[1]
		}
		request.Header.Add(header[0], header[1])
	}
	var reached way
	response, err := w.client.Do(request.WithContext(httptrace.WithClientTrace(ctx, reached.trace())))
	if err != nil {
		return answer{}, fmt.Errorf("%w (%s)", err, reached.last())
	}
	defer response.Body.Close()
	var text bytes.Buffer
	fmt.Fprintf(&text, "Url=%s\nStatusCode=%d\n", w.target, response.StatusCode)
	for _, name := range sorted(response.Header) {
		for _, value := range response.Header[name] {
			fmt.Fprintf(&text, "ResponseHeader=%s:%s\n", name, value)
		}
	}
	_, err = io.Copy(&text, response.Body)
	return answer{response.StatusCode, text.String()}, err
}

func (w *web) close() { w.client.CloseIdleConnections() }

// way is how far a request has come: what waits for too long is not known by its error.
type way struct{ latest atomic.Pointer[string] }

func (w *way) trace() *httptrace.ClientTrace {
	says := func(step string) { w.latest.Store(&step) }
	return &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { says("asking for its address") },
		ConnectStart: func(_, to string) { says("connecting to " + to) },
		GotConn: func(got httptrace.GotConnInfo) {
			says(fmt.Sprintf("connected from %s to %s", got.Conn.LocalAddr(), got.Conn.RemoteAddr()))
		},
		WroteRequest: func(httptrace.WroteRequestInfo) {
			if last := w.latest.Load(); last != nil {
				says(*last + ", request sent")
			}
		},
	}
}

func (w *way) last() string {
	if last := w.latest.Load(); last != nil {
		return *last
	}
	return "not begun"
}

// caller calls by gRPC.
type caller struct {
	*question
	target     string
	connection *grpc.ClientConn
}

func (c *caller) ask(ctx context.Context) (answer, error) {
	if c.connection == nil {
		// As it is: the resolver that gRPC has of its own would ask for service records, too.
		connection, err := grpc.NewClient("passthrough:///"+c.target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return answer{}, err
		}
		c.connection = connection
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	for _, header := range c.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	response, err := pb.NewGrpcEchoClient(c.connection).Echo(ctx, &pb.EchoRequest{})
	if c.fresh || err != nil {
		c.close()
	}
	if err != nil {
		return answer{}, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "Url=grpc://%s\nStatusCode=%d\nHostname=%s\n", c.target, http.StatusOK, response.Assertions.Context.Pod)
	for _, header := range response.Assertions.Headers {
		fmt.Fprintf(&text, "RequestHeader=%s:%s\n", header.Key, header.Value)
	}
	return answer{http.StatusOK, text.String()}, nil
}

func (c *caller) close() {
	if c.connection != nil {
		c.connection.Close()
		c.connection = nil
	}
}

// teller sends lines by TCP.
type teller struct {
	*question
	target     string
	connection net.Conn
	reader     *bufio.Reader
}

func (t *teller) ask(ctx context.Context) (answer, error) {
	said, err := t.tell(ctx)
	if t.fresh || err != nil {
		t.close()
	}
	return answer{http.StatusOK, fmt.Sprintf("Url=tcp://%s\nStatusCode=%d\n%s", t.target, http.StatusOK, said)}, err
}

func (t *teller) tell(ctx context.Context) (string, error) {
	if t.connection == nil {
		dialer := net.Dialer{Timeout: t.timeout}
		connection, err := dialer.DialContext(ctx, "tcp", t.target)
		if err != nil {
			return "", err
		}
		t.connection, t.reader = connection, bufio.NewReader(connection)
	}
	if err := t.connection.SetDeadline(time.Now().Add(t.timeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(t.connection, "hello"); err != nil {
		return "", err
	}
	return t.reader.ReadString('\n')
}

func (t *teller) close() {
	if t.connection != nil {
		t.connection.Close()
		t.connection = nil
	}
}

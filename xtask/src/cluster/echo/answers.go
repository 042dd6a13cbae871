package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// echo answers a request with what it was, a field a line.
//
// A request may ask for more: `x-echo-status: 503`, `x-echo-delay: 2s`, `x-echo-fail: 3/KEY` (503 for the first three
// with this key), `x-echo-log: yes` (a line in the pod's log).
type echo struct {
	name  string
	mutex sync.Mutex
	seen  map[string]int
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("x-echo-log") != "" {
		fmt.Println(r.Method, r.Host, r.URL.RequestURI())
	}
	if delay, err := time.ParseDuration(r.Header.Get("x-echo-delay")); err == nil {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
		}
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(e.status(r))
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	_, port, _ := net.SplitHostPort(fmt.Sprint(local))
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "Hostname=%s\nServicePort=%s\nHost=%s\nURL=%s\nMethod=%s\nProto=%s\nIP=%s\n",
		e.name, port, r.Host, r.URL.RequestURI(), r.Method, r.Proto, client)
	for _, name := range sorted(r.Header) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(w, "RequestHeader=%s:%s\n", name, value)
		}
	}
}

func (e *echo) status(r *http.Request) int {
	var key string
	var times int
	if n, _ := fmt.Sscanf(r.Header.Get("x-echo-fail"), "%d/%s", &times, &key); n == 2 {
		e.mutex.Lock()
		defer e.mutex.Unlock()
		if e.seen == nil {
			e.seen = map[string]int{}
		}
		e.seen[key]++
		if e.seen[key] <= times {
			return http.StatusServiceUnavailable
		}
	}
	status, err := strconv.Atoi(r.Header.Get("x-echo-status"))
	if err != nil {
		return http.StatusOK
	}
	return status
}

func sorted(header http.Header) []string {
	var names []string
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// calling answers calls by the service that the conformance suite's other echo server has.
type calling struct {
	pb.UnimplementedGrpcEchoServer
	name string
}

func (c *calling) Echo(ctx context.Context, in *pb.EchoRequest) (*pb.EchoResponse, error) {
	assertions := &pb.Assertions{
		FullyQualifiedMethod: pb.GrpcEcho_Echo_FullMethodName,
		Context:              &pb.Context{Pod: c.name},
	}
	if from, ok := peer.FromContext(ctx); ok {
		assertions.Headers = append(assertions.Headers, &pb.Header{Key: "x-echo-ip", Value: from.Addr.String()})
	}
	sent, _ := metadata.FromIncomingContext(ctx)
	for key, values := range sent {
		for _, value := range values {
			assertions.Headers = append(assertions.Headers, &pb.Header{Key: key, Value: value})
		}
	}
	return &pb.EchoResponse{Assertions: assertions, Request: in}, nil
}

// lines answers each line with the server's name, the client's address and the line.
func lines(listener net.Listener, name string) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			client, _, _ := net.SplitHostPort(connection.RemoteAddr().String())
			for scanner := bufio.NewScanner(connection); scanner.Scan(); {
				if _, err := fmt.Fprintf(connection, "Hostname=%s IP=%s %s\n", name, client, scanner.Text()); err != nil {
					return
				}
			}
		}()
	}
}

// certificate is that of the files, or one that nobody can verify where there are none.
func certificate(cert, key string) (tls.Certificate, error) {
	if _, err := os.Stat(cert); err == nil {
		return tls.LoadX509KeyPair(cert, key)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "echo"},
		DNSNames:     []string{"echo"},
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, err
}

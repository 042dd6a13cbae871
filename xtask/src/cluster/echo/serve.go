package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// serve answers on every port that the flags name, until one fails or it is told to end. Then it finishes what it has begun.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	var plain, sealed, bytes, calls ports
	flags.Var(&plain, "port", "HTTP/1.1 and HTTP/2 with prior knowledge")
	flags.Var(&sealed, "tls", "which of --port speak TLS")
	flags.Var(&bytes, "tcp", "lines, each of which is answered by one")
	flags.Var(&calls, "grpc", "gRPC")
	cert := flags.String("crt", "", "certificate (default: one of its own, made at start)")
	key := flags.String("key", "", "and its key")
	drain := flags.Duration("drain", 0, "how long it answers after it was told to end")
	flags.Parse(args)

	name, err := os.Hostname()
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	begin := func(port int, run func(net.Listener) error) error {
		listener, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			go func() { failed <- fmt.Errorf("port %d: %w", port, run(listener)) }()
		}
		return err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: &echo{name: name}, Protocols: protocols}
	for _, port := range plain {
		run := server.Serve
		if slices.Contains(sealed, port) {
			pair, err := certificate(*cert, *key)
			if err != nil {
				return err
			}
			run = func(listener net.Listener) error {
				config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
				return server.Serve(tls.NewListener(listener, config))
			}
		}
		if err := begin(port, run); err != nil {
			return err
		}
	}
	for _, port := range bytes {
		if err := begin(port, func(listener net.Listener) error { return lines(listener, name) }); err != nil {
			return err
		}
	}
	rpc := grpc.NewServer()
	pb.RegisterGrpcEchoServer(rpc, &calling{name: name})
	healthpb.RegisterHealthServer(rpc, health.NewServer())
	for _, port := range calls {
		if err := begin(port, rpc.Serve); err != nil {
			return err
		}
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// Whoever still comes by what he has heard last is answered, too.
	time.Sleep(*drain)
	rpc.GracefulStop()
	ending, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ending)
}

package conformance

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// waitBeforeEachTest has each test of the suite, once its objects are there, begin when all nodes have them in force.
func waitBeforeEachTest() {
	for i := range tests.ConformanceTests {
		test := &tests.ConformanceTests[i]
		begin := test.Test
		test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
			waitUntilProgrammed(t, s.Client, test.ShortName)
			begin(t, s)
		}
	}
}

// waitUntilProgrammed says of a test without routes, too, when it may begin: the routes of the test before it are gone
// from wherever a later route of the same kind is in force.
func waitUntilProgrammed(t *testing.T, c client.Client, test string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := mark(ctx, c, test); err != nil {
		t.Fatalf("make a route of our own: %v", err)
	}
	last := "nothing was seen"
	for {
		missing, err := notProgrammed(ctx, c)
		if err == nil && len(missing) == 0 {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("not Programmed after %v: %v", limit, last)
		}
		last = fmt.Sprintf("%v %v", missing, err)
		time.Sleep(pause)
	}
}

// mark makes a Service that nobody asks, and has a route of each kind for it that is another one for each test.
func mark(ctx context.Context, c client.Client, test string) error {
	service := core.Service{ObjectMeta: marker()}
	service.Spec.Ports = []core.ServicePort{{Name: "http", Port: httpPort}, {Name: "grpc", Port: grpcPort}}
	if err := c.Create(ctx, &service); err != nil && !errors.IsAlreadyExists(err) {
		return err
	}
	header := gateway.HTTPHeader{Name: "x-test", Value: test}
	set := &gateway.HTTPHeaderFilter{Set: []gateway.HTTPHeader{header}}
	http := gateway.HTTPRoute{ObjectMeta: marker()}
	http.Spec.ParentRefs = parent(httpPort)
	http.Spec.Rules = []gateway.HTTPRouteRule{{Filters: []gateway.HTTPRouteFilter{
		{Type: gateway.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: set},
	}}}
	grpc := gateway.GRPCRoute{ObjectMeta: marker()}
	grpc.Spec.ParentRefs = parent(grpcPort)
	grpc.Spec.Rules = []gateway.GRPCRouteRule{{Filters: []gateway.GRPCRouteFilter{
		{Type: gateway.GRPCRouteFilterRequestHeaderModifier, RequestHeaderModifier: set},
	}}}
	for _, route := range []client.Object{&http, &grpc} {
		old := route.DeepCopyObject().(client.Object)
		if err := client.IgnoreNotFound(c.Delete(ctx, old)); err != nil {
			return err
		}
		if err := c.Create(ctx, route); err != nil {
			return err
		}
	}
	return nil
}

func marker() meta.ObjectMeta {
	return meta.ObjectMeta{Namespace: suite.MeshNamespace, Name: "marker"}
}

func parent(port gateway.PortNumber) []gateway.ParentReference {
	group, kind := gateway.Group(""), gateway.Kind("Service")
	return []gateway.ParentReference{{Group: &group, Kind: &kind, Name: "marker", Port: &port}}
}

// notProgrammed names the routes of the suite that are not in force, as they are now.
func notProgrammed(ctx context.Context, c client.Client) ([]string, error) {
	var missing []string
	look := func(of meta.ObjectMeta, parents int, status gateway.RouteStatus) {
		if len(status.Parents) == parents && !slices.ContainsFunc(status.Parents, func(p gateway.RouteParentStatus) bool {
			return !isProgrammed(p.Conditions, of.Generation)
		}) {
			return
		}
		missing = append(missing, of.Namespace+"/"+of.Name+" of generation "+strconv.FormatInt(of.Generation, 10))
	}
	for _, namespace := range []string{suite.MeshNamespace, suite.MeshConsumerNamespace} {
		var http gateway.HTTPRouteList
		var grpc gateway.GRPCRouteList
		for _, list := range []client.ObjectList{&http, &grpc} {
			if err := c.List(ctx, list, client.InNamespace(namespace)); err != nil {
				return nil, fmt.Errorf("list routes of %s: %w", namespace, err)
			}
		}
		for _, route := range http.Items {
			look(route.ObjectMeta, len(route.Spec.ParentRefs), route.Status.RouteStatus)
		}
		for _, route := range grpc.Items {
			look(route.ObjectMeta, len(route.Spec.ParentRefs), route.Status.RouteStatus)
		}
	}
	return missing, nil
}

func isProgrammed(conditions []meta.Condition, generation int64) bool {
	return slices.ContainsFunc(conditions, func(one meta.Condition) bool {
		return one.Type == "Programmed" && one.Status == meta.ConditionTrue && one.ObservedGeneration >= generation
	})
}

const (
	// A port has routes of one kind.
	httpPort = 80
	grpcPort = 81
	limit    = time.Minute
	pause    = 50 * time.Millisecond
)

// Package conformance is the Gateway API project's own suite, as a program: `go test -c` makes one of it.
package conformance

import (
	"flag"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

// strictly is for whoever does not want to know whether a mesh comes to be right, but from when on it is.
var strictly = flag.Bool("strictly", false,
	"before each test wait until every route is Programmed, and then ask often; who starts this counts what was wrong")

func TestConformance(t *testing.T) {
	options := conformance.DefaultOptions(t)
	if *strictly {
		options.TimeoutConfig.RequiredConsecutiveSuccesses = askedStrictly
		waitBeforeEachTest()
	}
	conformance.RunConformanceWithOptions(t, options)
}

// askedStrictly is how often each request is made.
const askedStrictly = 20

// Package conformance is the Gateway API project's own suite, as a program: `go test -c` makes one of it.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}

//go:build tools

// Package tools names what is built, so that go.mod and go.sum pin it with all that it is built from.
package tools

import _ "helm.sh/helm/v3/cmd/helm"

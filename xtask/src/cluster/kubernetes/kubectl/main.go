// Command kubectl is Kubernetes' own client, of the same release as the cluster.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		// It prints what went wrong, and exits.
		util.CheckErr(err)
	}
	os.Exit(0)
}

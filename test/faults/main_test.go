// Package faults breaks consumers in the ways that break consumers, one promise a
// file, on real Postgres and Kafka. The table in docs/delivery.md says which
// fault is tried where.
package faults

import (
	"fmt"
	"os"
	"testing"

	"github.com/millrace-go/millrace/test/harness"
)

// envMember makes the test program a member of a consumer group, so that it can
// be killed.
const envMember = "MILLRACE_TEST_MEMBER"

func TestMain(m *testing.M) {
	if spec := os.Getenv(envMember); spec != "" {
		if err := runMember(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	harness.Main(m)
}

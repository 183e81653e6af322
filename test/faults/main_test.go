// Package faults breaks consumers in the ways that break consumers, one promise a
// file, on real Postgres and Kafka. The table in docs/delivery.md says which
// fault is tried where.
package faults

import (
	"testing"

	"github.com/millrace-go/millrace/test/lab"
)

// TestMain runs the tests, or a member of a consumer group that can be killed.
func TestMain(m *testing.M) {
	lab.RunChild(runMember)
	lab.Main(m, "TestCrash_BetweenEffectAndOffsetCommitRepeatsNoEffect", "TestPanic_.*", "TestPoison_.*")
}

package harness

import (
	"fmt"
	"strings"
	"testing"
)

// reportLimit is how many findings a failed assertion lists.
const reportLimit = 10

// AssertOrder fails the test if, within one partition and key, the number that
// number finds in a record does not rise from one first delivery to the next. A
// number that its key has had before is a duplicate and does not count. Records
// come in the order of their partitions, as from ReadTopic.
func AssertOrder(t testing.TB, records []Record, number func(Record) int64) {
	t.Helper()
	newest := map[string]Record{}
	seen := map[string]map[int64]bool{}
	var wrong []string
	for _, r := range records {
		key, n := string(r.Key), number(r)
		if seen[key] == nil {
			seen[key] = map[int64]bool{}
		}
		if seen[key][n] {
			continue
		}
		seen[key][n] = true
		if last, ok := newest[key]; ok && n < number(last) {
			wrong = append(wrong, fmt.Sprintf("key %q: %d (partition %d, offset %d) comes after %d (partition %d, offset %d)",
				key, n, r.Partition, r.Offset, number(last), last.Partition, last.Offset))
			continue
		}
		newest[key] = r
	}
	report(t, "out of order", wrong)
}

// AssertComplete fails the test unless the ids that id finds in the records are
// the wanted ones, each at least once. It returns how many records were
// duplicates.
func AssertComplete(t testing.TB, records []Record, id func(Record) string, want []string) (duplicates int) {
	t.Helper()
	count := map[string]int{}
	for _, r := range records {
		count[id(r)]++
	}
	var missing, unexpected []string
	for _, w := range want {
		n, ok := count[w]
		if !ok {
			missing = append(missing, w)
		}
		duplicates += max(n-1, 0)
		delete(count, w)
	}
	for extra := range count {
		unexpected = append(unexpected, extra)
	}
	report(t, "missing", missing)
	report(t, "unexpected", unexpected)
	return duplicates
}

func report(t testing.TB, what string, findings []string) {
	t.Helper()
	if len(findings) == 0 {
		return
	}
	shown := findings[:min(len(findings), reportLimit)]
	t.Errorf("harness: %d %s, among them:\n%s", len(findings), what, strings.Join(shown, "\n"))
}

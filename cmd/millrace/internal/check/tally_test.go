package check_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/check"
)

func id(n byte) uuid.UUID { return uuid.UUID{15: n, 0: 1} }

func rec(n byte, key string, version int64, partition int32) check.Record {
	return check.Record{EventID: id(n), Key: key, Aggregate: "a-" + key, Version: version, Partition: partition}
}

func committed(n byte, key string, version int64) check.Event {
	return check.Event{ID: id(n), Key: key, Aggregate: "a-" + key, Version: version}
}

func TestLedger_CatchesEachBrokenPromise(t *testing.T) {
	t.Parallel()
	truth := []check.Event{committed(1, "k", 1), committed(2, "k", 2), committed(3, "j", 1)}
	good := []check.Record{rec(1, "k", 1, 0), rec(2, "k", 2, 0), rec(3, "j", 1, 1)}
	cases := map[string]struct {
		records []check.Record
		want    check.Verdict
	}{
		"all well":            {good, check.Verdict{Committed: 3, Delivered: 3}},
		"one lost":            {good[:2], check.Verdict{Committed: 3, Delivered: 2, Lost: 1}},
		"one twice":           {append(good[:3:3], good[0]), check.Verdict{Committed: 3, Delivered: 3, Duplicates: 1}},
		"one never committed": {append(good[:3:3], rec(9, "x", 1, 0)), check.Verdict{Committed: 3, Delivered: 3, Ghosts: 1}},
		"two swapped":         {[]check.Record{good[1], good[0], good[2]}, check.Verdict{Committed: 3, Delivered: 3, Reordered: 1}},
		"key over partitions": {[]check.Record{good[0], rec(2, "k", 2, 1), good[2]}, check.Verdict{Committed: 3, Delivered: 3, Reordered: 1}},
		"key changed":         {[]check.Record{rec(1, "z", 1, 0), good[1], good[2]}, check.Verdict{Committed: 3, Delivered: 2, Ghosts: 1}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := check.NewTally()
			for _, r := range tc.records {
				l.Deliver(r)
			}
			got := l.Judge(truth)
			if !got.OK() {
				require.NotEmpty(t, got.Witnesses)
			}
			got.Witnesses = nil
			require.Equal(t, tc.want, got)
		})
	}
}

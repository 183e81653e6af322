package problems_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox/internal/problems"
)

func TestList_ReportsAllProblemsInOrder(t *testing.T) {
	t.Parallel()
	var l problems.List
	l.NotNil("db", false)
	l.NotNil("log", true)
	l.Unless(false, "Name", "must be short, is %q", "long")
	l.Unless(true, "Kind", "must be known")
	problems.AtLeast(&l, "Max", 1, 2)
	problems.AtLeast(&l, "Min", 2, 2)
	problems.Positive(&l, "Rows", 0)
	problems.Positive(&l, "Bytes", 1)
	l.AddAll(nil)
	l.AddAll(errors.New("Relay: more"))
	require.EqualError(t, l.Err(), "db: must not be nil\nName: must be short, is \"long\"\nMax: must be at least 2, is 1\nRows: must be positive, is 0\nRelay: more")
}

func TestList_WithoutProblemsIsNoError(t *testing.T) {
	t.Parallel()
	var l problems.List
	require.NoError(t, l.Err())
}

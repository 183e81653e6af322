package problems_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

func TestList_NamesAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	var l problems.List
	problems.AtLeast(&l, "Lease", 5*time.Millisecond, 10*time.Millisecond)
	problems.AtLeast(&l, "Fine", 10, 10)
	problems.Within(&l, "Jitter", 0.7, 0, 0.5)
	problems.Within(&l, "Fine", 0.5, 0, 0.5)
	problems.Positive(&l, "Tries", 0)
	problems.Positive(&l, "Fine", 1)
	problems.NotNil(&l, "db", false)
	problems.NotNil(&l, "fine", true)
	l.Unless(false, "Mode", "must be on or off, is %q", "maybe")
	l.Unless(true, "Fine", "is not")
	l.Add("Zone", io.EOF)
	l.Add("Fine", nil)
	l.Add("Part", errors.Join(errors.New("A: is off"), errors.New("B: is off")))
	l.Add("Whole", fmt.Errorf("%w and %w", io.EOF, io.ErrNoProgress))
	l.AddAll(errors.New("Sub: must be set"))
	l.AddAll(nil)
	require.EqualError(t, l.Err(), `Lease: must be at least 10ms, is 5ms
Jitter: must be within 0 and 0.5, is 0.7
Tries: must be positive, is 0
db: must not be nil
Mode: must be on or off, is "maybe"
Zone: EOF
Part: A: is off
Part: B: is off
Whole: EOF and multiple Read calls return no data or error
Sub: must be set`)
	require.ErrorIs(t, l.Err(), io.EOF)
}

func TestList_OfNothingIsNoError(t *testing.T) {
	t.Parallel()
	var l problems.List
	require.NoError(t, l.Err())
}

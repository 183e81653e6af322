package demo_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/cmd/millrace/internal/demo"
)

func TestReport_NamesTheBrokenPromise(t *testing.T) {
	t.Parallel()
	good := demo.Report{Delivered: 0, Planted: 2, DeadLettered: 2, Replayed: 2, ViewsChecked: 1, Sends: demo.Sends{Requested: 1}}
	require.True(t, good.OK())
	for promise, damage := range map[string]func(*demo.Report){
		"every committed event is published": func(r *demo.Report) { r.Lost = 1 },
		"nothing else is published":          func(r *demo.Report) { r.Committed = 1 }, // nobody was told
		"events of a key keep their order":   func(r *demo.Report) { r.Reordered = 1 },
		"no duplicates without a crash":      func(r *demo.Report) { r.Duplicates = 1 },
		"what cannot be handled is kept":     func(r *demo.Report) { r.DeadLettered, r.Replayed = 1, 1 },
		"dead letters can be replayed":       func(r *demo.Report) { r.Replayed = 1 },
		"Redis equals Postgres":              func(r *demo.Report) { r.ViewsWrong = 1 },
		"what is to be sent is sent once":    func(r *demo.Report) { r.Sends.Twice = 1 },
	} {
		r := good
		damage(&r)
		require.False(t, r.OK(), promise)
		var broken []string
		for _, v := range r.Verdicts() {
			if !v.Kept {
				broken = append(broken, v.Promise)
			}
		}
		require.Equal(t, []string{promise}, broken)
	}
}

func TestConfig_NamesEverythingThatIsWrong(t *testing.T) {
	t.Parallel()
	err := demo.Config{Rate: -1, Poison: -1}.Validate()
	for _, flag := range []string{"--for", "--rate", "--poison"} {
		require.ErrorContains(t, err, flag)
	}
}

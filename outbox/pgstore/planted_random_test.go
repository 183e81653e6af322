package pgstore

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/outbox"
)

// The plays of plants show each bug for certain; here the hostile writers have to
// show it, which is what the checker is for.
func TestPlantedBugs_AreCaughtByTheChecker(t *testing.T) {
	t.Parallel()
	seed, server := newSeed(t), checkerServer(t)
	all := plants()
	if testing.Short() { // TestPlantedBugs_AreCaught shows each of them for certain
		all = all[:2]
	}
	for _, p := range all {
		t.Run(strings.ReplaceAll(p.name, " ", "_"), func(t *testing.T) {
			rule := productionRule
			if p.poll != nil {
				rule = func(ctx context.Context, s *session, limit, _ int) (outbox.Batch, error) {
					return p.poll(ctx, &s.reading, s.reader, func() {}, limit)
				}
			}
			c := newChecker(t, server, seed, rule)
			c.alone = true
			c.flaw = p.flaw
			began := time.Now()
			err := c.run(t.Context(), 100_000)
			require.ErrorIs(t, err, errBroken)
			t.Logf("caught after %d events and %.1f s: %v", len(c.verdict.delivered), time.Since(began).Seconds(), err)
		})
	}
}

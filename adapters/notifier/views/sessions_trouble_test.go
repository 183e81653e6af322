package views_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/account"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// A frozen Redis answers nothing. Verdicts stay what they were: the database
// gives them. What was decided in the meantime holds afterwards, too.
func TestAuthenticate_WithAFrozenRedisJudgesByTheDatabase(t *testing.T) {
	t.Parallel()
	server, opt := ownRedis(t)
	cfg := nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: opt}
	n, other := newNode(t, cfg), newNode(t, cfg)
	n.signUp(t)
	good, ended := n.logIn(t), n.logIn(t)
	require.True(t, other.valid(t, ended))

	require.NoError(t, server.Pause())
	require.True(t, n.valid(t, good))
	require.True(t, n.valid(t, ended))
	require.NoError(t, n.LogOut(t.Context(), ended))
	require.False(t, n.valid(t, ended))
	require.False(t, other.valid(t, ended), "the other process asks the database, too")
	opened := n.logIn(t)
	require.True(t, n.valid(t, opened))
	require.False(t, n.valid(t, account.NewToken().Reveal()))

	require.NoError(t, server.Resume())
	events := recordedSessions(t, n)
	harness.Await(t, within, "the events are applied, as their consumer does", func(ctx context.Context) error {
		return n.sessions.Apply(ctx, events...)
	})
	for _, at := range []*node{n, other} {
		require.True(t, at.valid(t, good))
		require.True(t, at.valid(t, opened))
		require.False(t, at.valid(t, ended))
	}
}

// Redis is frozen and the database has no time either: that is 503, not 401.
func TestAuthenticate_WithNobodyToAskIsOverloadedAndNoVerdict(t *testing.T) {
	t.Parallel()
	server, opt := ownRedis(t)
	cfg := nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: opt}
	n := newNode(t, cfg)
	n.signUp(t)
	token := n.logIn(t)
	late := newLateReader(false)
	cfg.reader = func(r app.AccountReader) app.AccountReader { late.AccountReader = r; return late }
	busy := newNode(t, cfg)
	late.hold.Store(true)
	t.Cleanup(late.free)
	require.NoError(t, server.Pause())

	// Requests for unknown tokens fill the bulkhead.
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 32 {
		wg.Go(func() { _, _ = busy.Authenticate(ctx, account.NewToken().Reveal()) })
	}
	for range 32 {
		<-late.read
	}
	_, err := busy.Authenticate(t.Context(), token)
	require.ErrorIs(t, err, app.ErrOverloaded)
	require.NotErrorIs(t, err, account.ErrInvalidToken)
	require.LessOrEqual(t, busy.store.Status().PeakLoading, 32)

	late.free()
	cancel()
	wg.Wait()
	require.NoError(t, server.Resume())
	require.True(t, busy.valid(t, token))
}

// Redis is flushed again and again under load: no request fails, no verdict is
// wrong, and the database has no more than the bulkhead's to do at once.
func TestAuthenticate_UnderFlushesFailsNobodyAndBoundsTheDatabase(t *testing.T) {
	t.Parallel()
	_, opt := ownRedis(t)
	cfg := nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: opt}
	n := newNode(t, cfg)
	n.signUp(t)
	var good, bad []string
	for range 40 {
		good, bad = append(good, n.logIn(t)), append(bad, n.logIn(t))
	}
	for _, token := range bad {
		require.NoError(t, n.LogOut(t.Context(), token))
	}
	var flushes, answers, overloaded atomic.Int64
	errs := make(chan error, 64)
	end := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for k := i; ; k++ {
				select {
				case <-end:
					return
				default:
				}
				_, err := n.Authenticate(t.Context(), good[k%len(good)])
				_, refused := n.Authenticate(t.Context(), bad[k%len(bad)])
				switch {
				case errors.Is(err, app.ErrOverloaded) || errors.Is(refused, app.ErrOverloaded): // a busy machine
					overloaded.Add(1)
				case err != nil || !errors.Is(refused, account.ErrInvalidToken):
					errs <- errors.Join(err, refused, errors.New("wrong verdict"))
					return
				}
				answers.Add(2)
			}
		})
	}
	for flushes.Load() < 20 {
		after := answers.Load() + 500
		harness.Await(t, within, "requests are answered", func(context.Context) error {
			if answers.Load() < after {
				return errors.New("not yet")
			}
			return nil
		})
		if n.rdb.FlushAll(t.Context()).Err() == nil {
			flushes.Add(1)
		}
	}
	close(end)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	status := n.store.Status()
	t.Logf("%d answers over %d flushes, %d overloaded, at most %d loads at once", answers.Load(), flushes.Load(), overloaded.Load(), status.PeakLoading)
	require.LessOrEqual(t, status.PeakLoading, 32)
}

// Requests in flight when Redis dies and comes back empty get their verdict.
func TestAuthenticate_SurvivesARestartOfRedis(t *testing.T) {
	t.Parallel()
	server, opt := ownRedis(t)
	cfg := nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: opt}
	n := newNode(t, cfg)
	n.signUp(t)
	good, bad := n.logIn(t), n.logIn(t)
	require.NoError(t, n.LogOut(t.Context(), bad))
	for range 2 {
		require.NoError(t, server.Kill())
		require.True(t, n.valid(t, good))
		require.False(t, n.valid(t, bad))
		require.NoError(t, server.Start(t.Context()))
		require.True(t, n.valid(t, good))
		require.False(t, n.valid(t, bad))
	}
	harness.Await(t, within, "tokens are answered without the database again", func(ctx context.Context) error {
		before := n.statements.Load()
		if _, err := n.Authenticate(ctx, good); err != nil {
			return err
		}
		if n.statements.Load() != before {
			return errors.New("it was asked")
		}
		return nil
	})
}

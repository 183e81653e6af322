package views_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain/account"
	migrations "github.com/millrace-go/millrace/sql"
	"github.com/millrace-go/millrace/test/harness"
)

// ledger knows, of every token, when it certainly was good and when it certainly
// was not, by the times at which calls began and returned.
type ledger struct {
	mu       sync.Mutex
	sessions []*witnessed
	wrong    []error

	overloaded     int
	everywhere     int       // such calls at work
	lastEverywhere time.Time // when the latest of them returned
}

type witnessed struct {
	token         string
	opened        time.Time // when LogIn returned
	ending, ended time.Time // of the first call that may have ended it, of the first that certainly has
}

func (l *ledger) opened(token string, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &witnessed{token: token, opened: time.Now()}
	if l.everywhere > 0 || l.lastEverywhere.After(began) { // either may have come first
		s.ending = began
	}
	l.sessions = append(l.sessions, s)
}

func (l *ledger) pick(rng *rand.Rand) *witnessed {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.sessions) == 0 {
		return nil
	}
	newest := max(0, len(l.sessions)-12) // mostly those that something happens to
	if rng.IntN(4) == 0 {
		newest = 0
	}
	return l.sessions[newest+rng.IntN(len(l.sessions)-newest)]
}

// ending notes that a call begins that may end the session s, or all.
func (l *ledger) ending(s *witnessed, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if all {
		l.everywhere++
	}
	for _, v := range l.sessions {
		if (all || v == s) && v.ending.IsZero() {
			v.ending = now
		}
	}
}

// returned notes that a call that may end all has returned.
func (l *ledger) returned() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.everywhere--
	l.lastEverywhere = time.Now()
}

// ended notes that such a call, begun at the given time, has succeeded and every
// process was told. Of all sessions, those are over whose login had returned.
func (l *ledger) ended(s *witnessed, all bool, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, v := range l.sessions {
		if (v == s || all && v.opened.Before(began)) && v.ended.IsZero() {
			v.ended = now
		}
	}
}

// judge compares a verdict with what is certain.
func (l *ledger) judge(s *witnessed, began time.Time, valid bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case valid && !s.ended.IsZero() && s.ended.Before(began):
		l.wrong = append(l.wrong, fmt.Errorf("a token was good %s after its end", began.Sub(s.ended)))
	case !valid && s.ending.IsZero():
		l.wrong = append(l.wrong, errors.New("a token was refused that nobody had ended"))
	}
}

// Several processes log in, out and out everywhere, ask and flush, all at once.
func TestSessions_VerdictsAreTrueUnderRacesAndFlushes(t *testing.T) {
	t.Parallel()
	witness(t, world(t), 250)
}

// The same while Redis freezes again and again: what it is told arrives late, or
// after its sender has given up.
func TestSessions_VerdictsAreTrueWhileRedisFreezes(t *testing.T) {
	t.Parallel()
	server, opt := ownRedis(t)
	end := make(chan struct{})
	var weather sync.WaitGroup
	weather.Go(func() { freeze(server, end) })
	t.Cleanup(func() { close(end); weather.Wait() })
	witness(t, nodeConfig{dsn: harness.NewDatabase(t, migrations.Lines()...).DSN, redis: opt}, 120)
}

// freeze pauses the server and lets it go on, until end; it leaves it going on.
func freeze(server *harness.RedisServer, end <-chan struct{}) {
	for {
		select {
		case <-end:
			return
		case <-time.After(rand.N(300 * time.Millisecond)):
		}
		_ = server.Pause()
		select {
		case <-end:
		case <-time.After(rand.N(400 * time.Millisecond)):
		}
		_ = server.Resume()
	}
}

// witness lets several processes do random things at once and demands that no
// verdict was wrong, neither then nor once all is quiet.
func witness(t *testing.T, cfg nodeConfig, steps int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	nodes := []*node{newNode(t, cfg), newNode(t, cfg), newNode(t, cfg)}
	nodes[0].signUp(t)
	l := &ledger{}
	var counts [5]atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for range steps {
				act := actOf(rng)
				counts[act].Add(1)
				l.step(t.Context(), rng, nodes[rng.IntN(len(nodes))], act)
			}
		})
	}
	wg.Wait()
	t.Logf("%d logins, %d logouts, %d everywhere, %d flushes, %d questions, %d overloaded",
		counts[actLogIn].Load(), counts[actLogOut].Load(), counts[actEverywhere].Load(), counts[actFlush].Load(), counts[actAsk].Load(), l.overloaded)
	require.Empty(t, l.wrong)

	// Quiet now: every process agrees with the database about every token.
	for _, s := range l.sessions {
		want, err := nodes[0].verdict(t.Context(), s.token)
		require.NoError(t, err)
		for _, n := range nodes {
			require.Equal(t, want, n.valid(t, s.token))
		}
	}
}

const (
	actLogIn = iota
	actLogOut
	actEverywhere
	actFlush
	actAsk
)

func actOf(rng *rand.Rand) int {
	switch n := rng.IntN(100); {
	case n < 10:
		return actLogIn
	case n < 18:
		return actLogOut
	case n < 20:
		return actEverywhere
	case n < 24:
		return actFlush
	}
	return actAsk
}

func (l *ledger) step(ctx context.Context, rng *rand.Rand, n *node, act int) {
	s := l.pick(rng)
	began, untold := time.Now(), n.untold.Load()
	switch {
	case act == actLogIn || s == nil:
		got, err := n.LogIn(ctx, email, password)
		if err != nil {
			l.fail(err)
			return
		}
		l.opened(got.Token.Reveal(), began)
	case act == actLogOut:
		l.ending(s, false)
		if err := n.LogOut(ctx, s.token); err != nil {
			l.refused(err)
			return
		}
		n.makeSure(ctx, s.token, untold, l)
		l.ended(s, false, began)
	case act == actEverywhere:
		l.ending(nil, true)
		defer l.returned()
		if err := n.LogOutEverywhere(ctx, s.token); err != nil {
			l.refused(err)
			return
		}
		n.makeSure(ctx, s.token, untold, l)
		l.ended(nil, true, began)
	case act == actFlush:
		_ = n.rdb.FlushDB(ctx) // a busy Redis does not do it
	default:
		_, err := n.Authenticate(ctx, s.token)
		if err == nil || errors.Is(err, account.ErrInvalidToken) {
			l.judge(s, began, err == nil)
		} else {
			l.trouble(err)
		}
	}
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, err)
}

// trouble: that nobody could be asked in time is no verdict.
func (l *ledger) trouble(err error) {
	if !errors.Is(err, app.ErrOverloaded) {
		l.fail(err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.overloaded++
}

// refused: that a token is over already is no fault of the one who ends it.
func (l *ledger) refused(err error) {
	if !errors.Is(err, account.ErrInvalidToken) {
		l.fail(err)
	}
}

// makeSure tells the cache again, as the consumer of the events does, if Redis may
// not have answered the use case: if the node has noted trouble since the count.
func (n *node) makeSure(ctx context.Context, token string, since int64, l *ledger) {
	if n.untold.Load() == since {
		return
	}
	parsed, err := account.ParseToken(token)
	if err != nil {
		l.fail(err)
		return
	}
	for told := false; !told; {
		s, err := n.reader.SessionView(ctx, parsed.Session())
		if err != nil {
			l.fail(err)
			return
		}
		a, err := n.reader.AccountView(ctx, s.Account)
		if err != nil {
			l.fail(err)
			return
		}
		err = n.sessions.RefreshAccount(ctx, a)
		if s.Revoked {
			err = errors.Join(err, n.sessions.Revoke(ctx, s))
		}
		told = err == nil
	}
}

// verdict is the database's, on a token.
func (n *node) verdict(ctx context.Context, token string) (bool, error) {
	parsed, err := account.ParseToken(token)
	if err != nil {
		return false, err
	}
	s, err := n.reader.SessionView(ctx, parsed.Session())
	if err != nil {
		return false, err
	}
	a, err := n.reader.AccountView(ctx, s.Account)
	return s.Live(a, time.Now()), err
}

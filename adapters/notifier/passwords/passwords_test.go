package passwords_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/passwords"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// cheap is fast enough to be done often.
var cheap = passwords.Config{Memory: 64, Passes: 1}

func open(t *testing.T, cfg passwords.Config) *passwords.Hasher {
	t.Helper()
	h, err := passwords.New(cfg)
	require.NoError(t, err)
	return h
}

func TestVerify_KnowsThePasswordAndNoOther(t *testing.T) {
	t.Parallel()
	h := open(t, cheap)
	hash, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	for password, want := range map[string]bool{"correct horse": true, "correct hors": false, "correct horse ": false, "": false} {
		got, err := h.Verify(t.Context(), hash, password)
		require.NoError(t, err)
		require.Equal(t, want, got, "%q", password)
	}
	again, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "each has a salt of its own")
	got, err := h.Verify(t.Context(), "", "")
	require.NoError(t, err)
	require.False(t, got, "nobody has the empty hash")
}

// The default is what docs and OWASP say; older hashes keep their own parameters.
func TestHash_HasTheParametersInIt(t *testing.T) {
	t.Parallel()
	hash, err := open(t, passwords.Config{}).Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
	got, err := open(t, cheap).Verify(t.Context(), hash, "correct horse")
	require.NoError(t, err)
	require.True(t, got)
}

// As the reference implementation does: argon2 somesalt -id -t 2 -m 16 -p 1 -e.
func TestVerify_ReadsWhatOtherLibrariesWrote(t *testing.T) {
	t.Parallel()
	const theirs = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	got, err := open(t, cheap).Verify(t.Context(), theirs, "password")
	require.NoError(t, err)
	require.True(t, got)
}

func TestVerify_RefusesStoredHashesItCannotOrMayNotCompute(t *testing.T) {
	t.Parallel()
	h := open(t, cheap)
	good, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err)
	for _, bad := range []string{
		"x", "correct horse", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "t=1", "t=0", 1), strings.Replace(good, "t=1", "t=65", 1), strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "p=1", "p=256", 1), strings.Replace(good, "m=64", "m=4294967295", 1), strings.Replace(good, "m=64", "m=7", 1),
		good + "!", strings.TrimSuffix(good, good[len(good)-30:]),
	} {
		got, err := h.Verify(t.Context(), bad, "correct horse")
		require.Error(t, err, "%q", bad)
		require.False(t, got)
		require.NotContains(t, err.Error(), bad[max(0, len(bad)-20):], "an error shows no hash")
	}
}

// All at once would need a hundred times the memory of one.
func TestHash_LetsAFewAtOnceAndABoundedQueueWait(t *testing.T) {
	t.Parallel()
	const all = 100
	h := open(t, passwords.Config{Memory: 1 << 16, Passes: 1, AtOnce: 2, Waiting: 5})
	results := make([]error, all)
	var ready, wg sync.WaitGroup
	ready.Add(all)
	for i := range all {
		wg.Go(func() {
			ready.Done()
			ready.Wait()
			_, results[i] = h.Hash(t.Context(), "correct horse")
		})
	}
	wg.Wait()
	done, refused := 0, 0
	for _, err := range results {
		if err == nil {
			done++
			continue
		}
		refused++
		require.ErrorIs(t, err, app.ErrOverloaded)
	}
	require.GreaterOrEqual(t, done, 7, "two at work and five waiting are served")
	require.Positive(t, refused)
	_, err := h.Hash(t.Context(), "correct horse")
	require.NoError(t, err, "afterwards all turns are free again")
}

// Anyone who asks for nobody's password must not learn it from the time it takes.
func TestVerify_OfNobodysPasswordTakesATurnToo(t *testing.T) {
	t.Parallel()
	h := open(t, passwords.Config{Memory: 4096, Passes: 2, AtOnce: 1, Waiting: -1})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = h.Hash(ctx, "correct horse") // mostly at work, so that others find no turn
			}
		})
	}
	require.Eventually(t, func() bool {
		_, err := h.Verify(ctx, "", "x")
		return errors.Is(err, app.ErrOverloaded)
	}, 2*time.Minute, time.Millisecond)
	cancel()
	wg.Wait()
}

func TestHash_WaitsNoLongerThanItsCaller(t *testing.T) {
	t.Parallel()
	h := open(t, passwords.Config{Memory: 1 << 16, Passes: 4, AtOnce: 1}) // some tenths of a second
	first := make(chan error, 1)
	began := make(chan struct{})
	go func() {
		close(began)
		_, err := h.Hash(t.Context(), "correct horse")
		first <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for {
		if _, err := h.Verify(ctx, "", "x"); err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			break
		}
	}
	require.NoError(t, <-first)
}

func TestNew_NamesEveryWrongField(t *testing.T) {
	t.Parallel()
	_, err := passwords.New(passwords.Config{Memory: 7, Passes: 65, Lanes: 65, AtOnce: -1, Waiting: -2})
	for _, field := range []string{"Memory", "Passes", "Lanes", "AtOnce", "Waiting"} {
		require.ErrorContains(t, err, field)
	}
}

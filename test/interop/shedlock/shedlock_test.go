// Package shedlock_test contends with ShedLock itself, in Java, for the same locks.
package shedlock_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/schedule/lock"
	"github.com/millrace-go/millrace/adapters/schedule/lock/locktest"
	"github.com/millrace-go/millrace/adapters/schedule/lock/redislock"
	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

func TestMain(m *testing.M) { lab.Main(m, "TestShedLock_KeepsToOurLocksAndWeToItsOwn") }

const (
	rounds   = 200
	liveness = 3 * time.Minute
	minute   = time.Minute
)

// pair is a node of ours and one of ShedLock's on the same store.
type pair struct {
	t     *testing.T
	locks lock.Provider
	java  *lab.Program
	said  int // bytes of Java's output that were read
	db    *sql.DB

	witness func(entry string) error
	story   func() []string
}

func onPostgres(t *testing.T) *pair {
	db := harness.NewDatabase(t)
	_, err := db.DB.Exec(`CREATE TABLE witness (id bigint GENERATED ALWAYS AS IDENTITY, entry text)`)
	require.NoError(t, err)
	locks, err := lock.NewPostgres(db.DB)
	require.NoError(t, err)
	u, err := url.Parse(db.DSN)
	require.NoError(t, err)
	p := &pair{t: t, locks: locks, db: db.DB}
	p.start("postgres", "jdbc:postgresql://"+u.Host+u.Path, u.User.Username())
	p.witness = func(entry string) error {
		_, err := db.DB.Exec(`INSERT INTO witness (entry) VALUES ($1)`, entry)
		return err
	}
	p.story = func() (all []string) {
		rows, err := db.DB.Query(`SELECT entry FROM witness ORDER BY id`)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var entry string
			require.NoError(t, rows.Scan(&entry))
			all = append(all, entry)
		}
		require.NoError(t, rows.Err())
		return all
	}
	return p
}

func onRedis(t *testing.T) *pair {
	shared := harness.Redis(t)
	at := fmt.Sprintf("redis://%s/%d", shared.Options().Addr, shared.Options().DB)
	o, err := redislock.Options(at)
	require.NoError(t, err)
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	locks, err := redislock.New(client, redislock.Config{})
	require.NoError(t, err)
	require.NoError(t, shared.Set(t.Context(), "job-epoch:default", 1, 0).Err()) // it is not new
	p := &pair{t: t, locks: locks}
	p.start("redis", at)
	p.witness = func(entry string) error { return shared.RPush(context.Background(), "witness", entry).Err() }
	p.story = func() []string { return shared.LRange(t.Context(), "witness", 0, -1).Val() }
	return p
}

func (p *pair) start(args ...string) {
	p.t.Helper()
	p.java = lab.BuildJava(p.t, ".").Start(p.t, "Node", args...)
	require.Equal(p.t, "ready", p.hear())
}

// hear returns Java's next line.
func (p *pair) hear() (line string) {
	p.t.Helper()
	harness.Await(p.t, liveness, "java answers", func(context.Context) error {
		l, _, whole := strings.Cut(p.java.Stdout()[p.said:], "\n")
		if !whole {
			return errors.New("it has not")
		}
		line, p.said = l, p.said+len(l)+1
		return nil
	})
	return strings.TrimSpace(line)
}

func (p *pair) tell(format string, args ...any) string {
	p.t.Helper()
	p.java.Say(fmt.Sprintf(format, args...) + "\n")
	return p.hear()
}

func (p *pair) take(name string, lease time.Duration) (lock.Grant, error) {
	return p.locks.Acquire(p.t.Context(), locktest.NewRequest(name, lease))
}

// soon waits until our node gets the lock.
func (p *pair) soon(name string) (g lock.Grant) {
	p.t.Helper()
	harness.Await(p.t, liveness, "the lock comes free", func(context.Context) (err error) {
		g, err = p.take(name, minute)
		return err
	})
	return g
}

func both(t *testing.T, run func(t *testing.T, p *pair)) {
	t.Run("postgres", func(t *testing.T) { t.Parallel(); run(t, onPostgres(t)) })
	t.Run("redis", func(t *testing.T) { t.Parallel(); run(t, onRedis(t)) })
}

// Both nodes take and free one lock as fast as they can. A witness in the same
// store sees that nobody comes before the other has gone. They do it again if the
// lock hardly changed hands: Java may come late the first time.
func TestShedLock_ExcludesUsAndWeExcludeItOverHundredsOfRounds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, p *pair) {
		deadline := time.Now().Add(liveness)
		for times, changes := 1, 0; changes <= 20; times++ {
			require.True(t, time.Now().Before(deadline), "they do not contend")
			p.contend(deadline)
			story := p.story()
			require.Len(t, story, 4*rounds*times)
			changes = handovers(t, story)
			t.Logf("%d rounds each, the lock changed hands %d times", rounds*times, changes)
		}
	})
}

// contend lets both nodes do their rounds.
func (p *pair) contend(deadline time.Time) {
	p.t.Helper()
	p.java.Say(fmt.Sprintf("contend job %d\n", rounds))
	for done := 0; done < rounds; {
		require.True(p.t, time.Now().Before(deadline), "after %d rounds", done)
		g, err := p.take("job", minute)
		if err == nil {
			done++
			require.NoError(p.t, errors.Join(p.witness("go comes"), p.witness("go goes"), p.locks.Release(p.t.Context(), g, 0)))
		} else {
			require.ErrorIs(p.t, err, lock.ErrNotAcquired)
		}
		<-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond) // let the other one come
	}
	require.Equal(p.t, "done", p.hear())
}

// handovers demands that each went before the next came, and counts how often
// that was the other one.
func handovers(t *testing.T, story []string) (changes int) {
	t.Helper()
	for i := 0; i < len(story); i += 2 {
		who, _, _ := strings.Cut(story[i], " ")
		require.Equal(t, []string{who + " comes", who + " goes"}, story[i:i+2], "at %d", i)
		if i > 0 && story[i-2] != story[i] {
			changes++
		}
	}
	return changes
}

func TestShedLock_KeepsToOurLocksAndWeToItsOwn(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, p *pair) {
		g, err := p.take("job", minute)
		require.NoError(t, err)
		require.Equal(t, "refused", p.tell("lock job 60000 0"))
		require.NoError(t, p.locks.Release(t.Context(), g, 0))
		require.Equal(t, "granted", p.tell("lock job 60000 0"))
		_, err = p.take("job", minute)
		require.ErrorIs(t, err, lock.ErrNotAcquired)
		require.ErrorIs(t, p.locks.Renew(t.Context(), g, minute), lock.ErrLost)
		require.ErrorIs(t, p.locks.Release(t.Context(), g, 0), lock.ErrLost)
		require.Equal(t, "extended", p.tell("extend 60000 0"))
		require.Equal(t, "unlocked", p.tell("unlock"))
		_, err = p.take("job", minute)
		require.NoError(t, err)
	})
}

func TestShedLock_HeedsOurLeastTimeAndWeHeedIts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, p *pair) {
		g, err := p.take("ours", minute)
		require.NoError(t, err)
		require.NoError(t, p.locks.Release(t.Context(), g, 50*time.Second))
		require.Equal(t, "refused", p.tell("lock ours 60000 0"), "the task is over, its least time is not")

		began := time.Now()
		require.Equal(t, "granted", p.tell("lock its 60000 1500"))
		require.Equal(t, "unlocked", p.tell("unlock"))
		p.soon("its")
		require.GreaterOrEqual(t, time.Since(began), 1400*time.Millisecond)
	})
}

// A holder that dies frees the lock for the other kind when its lease is over.
func TestShedLock_TakesOverFromOurDeadAndWeFromIts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, p *pair) {
		dead, err := p.take("ours", 300*time.Millisecond)
		require.NoError(t, err)
		harness.Await(t, liveness, "java takes over", func(context.Context) error {
			if p.tell("lock ours 60000 0") != "granted" {
				return errors.New("not yet")
			}
			return nil
		})
		require.ErrorIs(t, p.locks.Renew(t.Context(), dead, minute), lock.ErrLost)
		require.Equal(t, "granted", p.tell("lock its 1000 0"))
		next := p.soon("its")
		require.Equal(t, "lost", p.tell("extend 60000 0"))
		require.NoError(t, p.locks.Renew(t.Context(), next, minute))
	})
}

// ShedLock knows of no fence. When one of its nodes has taken the lock over, the
// table has a higher one, and our old holder's write is refused.
func TestShedLock_TakingOverRaisesTheFenceAndRefusesOurLateWrite(t *testing.T) {
	t.Parallel()
	p := onPostgres(t)
	old, err := p.take("job", 300*time.Millisecond)
	require.NoError(t, err)
	guard := func() error {
		tx, err := p.db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback()) }()
		return p.locks.Guard(t.Context(), tx, old)
	}
	require.NoError(t, guard(), "while it holds")
	harness.Await(t, liveness, "java takes over", func(context.Context) error {
		if p.tell("lock job 60000 0") != "granted" {
			return errors.New("not yet")
		}
		return nil
	})
	require.ErrorIs(t, guard(), lock.ErrLost)
	var its int64
	require.NoError(t, p.db.QueryRow(`SELECT fence FROM shedlock WHERE name = 'job'`).Scan(&its))
	require.Greater(t, its, old.Fence, "Java's taking counts")
	require.Equal(t, "unlocked", p.tell("unlock"))
	next, err := p.take("job", minute)
	require.NoError(t, err)
	require.Greater(t, next.Fence, its)
}

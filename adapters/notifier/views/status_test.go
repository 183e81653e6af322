package views_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/notifier/views"
	"github.com/millrace-go/millrace/app"
	"github.com/millrace-go/millrace/domain"
	"github.com/millrace-go/millrace/domain/notification"
	"github.com/millrace-go/millrace/test/harness"
)

// scripted is a database that answers each question by the next of its steps, and
// then as the last one.
func scripted(steps ...func() app.NotificationStatus) (db database, asked *int) {
	asked = new(int)
	return database{status: func(notification.ID) (app.NotificationStatus, error) {
		step := steps[min(*asked, len(steps)-1)]
		*asked++
		return step(), nil
	}}, asked
}

func storedVersion(t *testing.T, rdb *redis.Client, v *views.Views, id notification.ID) string {
	t.Helper()
	text, err := rdb.Get(t.Context(), key(t, v, id)).Result()
	require.NoError(t, err)
	return text[:20]
}

func TestFill_NeverReplacesTheSameOrALaterVersion(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Now()}
	v, rdb := open(t, views.Config{Now: c.Now})
	id, events := history(t, 3, time.Now())
	_, err := v.Apply(t.Context(), events[1])
	require.NoError(t, err)
	c.Advance(48 * time.Hour) // the entry is there and counts for nothing: a miss
	behind := newViews(t, rdb, always(status(t, events[0])), views.Config{Now: c.Now})
	_, err = behind.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "00000000000000000002", storedVersion(t, rdb, v, id), "a database that is behind fills nothing")

	current := newViews(t, rdb, always(status(t, events[2])), views.Config{Now: c.Now})
	got, err := current.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, notification.StatusSent, got.Status)
	require.Equal(t, "00000000000000000003", storedVersion(t, rdb, v, id))
}

// The event may have been evicted between the write and the fill: the version alone
// could not tell that the reader is behind.
func TestFill_IsRefusedOnceAnEventWasWritten(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	id, events := history(t, 3, time.Now())
	db, asked := scripted(func() app.NotificationStatus {
		_, err := v.Apply(t.Context(), events...)
		require.NoError(t, err)
		require.NoError(t, rdb.Del(t.Context(), key(t, v, id)).Err())
		return status(t, events[0])
	}, func() app.NotificationStatus { return status(t, events[2]) })
	got, err := newViews(t, rdb, db, views.Config{}).NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 3, got.Version)
	require.Equal(t, 2, *asked)
	require.Equal(t, "00000000000000000003", storedVersion(t, rdb, v, id))
}

// The event of an older version was written between the miss and the answer.
func TestFill_ReplacesWhatIsOlder(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	db, _ := scripted(func() app.NotificationStatus {
		_, err := v.Apply(t.Context(), events[0])
		require.NoError(t, err)
		return status(t, events[1])
	})
	got, err := newViews(t, rdb, db, views.Config{}).NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Version, "the writer came last: what Redis has is the answer")
	_, err = v.Apply(t.Context(), events[1])
	require.NoError(t, err)
	require.Equal(t, "00000000000000000002", storedVersion(t, rdb, v, id))
}

// A reader has read the first version and is slow. A reader of another process does
// not wait forever, reads the second version and answers with it. It must not see
// the first one next.
func TestFill_ASlowReaderDoesNotTakeAnotherOneBack(t *testing.T) {
	t.Parallel()
	_, rdb := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	reading, goOn := make(chan struct{}), make(chan struct{})
	db, _ := scripted(func() app.NotificationStatus {
		close(reading)
		<-goOn
		return status(t, events[0])
	}, func() app.NotificationStatus { return status(t, events[1]) })
	slow, fast := newViews(t, rdb, db, views.Config{}), newViews(t, rdb, always(status(t, events[1])), views.Config{})
	type answer struct {
		s   app.NotificationStatus
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		s, err := slow.NotificationStatus(t.Context(), id)
		answered <- answer{s, err}
	}()
	<-reading
	got, err := fast.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)
	close(goOn)
	late := <-answered
	require.NoError(t, late.err)
	require.EqualValues(t, 2, late.s.Version)
	for _, v := range []*views.Views{slow, fast} {
		got, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
	}
}

// Another generation begins to answer while a reader asks the database: what it
// read is not an answer, since the new generation may not have it.
func TestFill_AsksAgainIfAnotherGenerationAnswersByThen(t *testing.T) {
	t.Parallel()
	v, rdb := open(t, views.Config{})
	id, events := history(t, 2, time.Now())
	p := projectionOf(t, v, views.Status)
	var reader *views.Views
	db, asked := scripted(func() app.NotificationStatus {
		next, err := p.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, p.Fold(t.Context(), next, events[0]))
		require.NoError(t, p.Flip(t.Context(), next))
		_, err = reader.Tracker().Current(t.Context(), views.Status) // as if a second had passed
		require.NoError(t, err)
		return status(t, events[1])
	})
	reader = newViews(t, rdb, db, views.Config{})
	got, err := reader.NotificationStatus(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Version, "what the new generation has")
	require.Equal(t, 1, *asked)
}

func TestStatus_ComesFromTheDatabaseWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	server, err := harness.StartRedis(t.Context(), harness.RedisConfig{})
	require.NoError(t, err)
	opt, err := redis.ParseURL(server.URL())
	require.NoError(t, err)
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	id, events := history(t, 2, time.Now())
	db, _ := scripted(func() app.NotificationStatus { return status(t, events[1]) })
	v := newViews(t, rdb, db, views.Config{})
	require.NoError(t, server.Stop(t.Context()))
	for range 3 {
		got, err := v.NotificationStatus(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
	}
	_, err = newViews(t, rdb, nothing, views.Config{}).NotificationStatus(t.Context(), id)
	require.ErrorIs(t, err, domain.ErrNotFound, "the database said so")
}

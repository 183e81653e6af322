package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A viewReader reads the views by a way of its own. The version 0 is a notification
// that the view does not have, a nil list one that it does not have in full.
type viewReader interface {
	version(ctx context.Context, id string) (int64, error)
	list(ctx context.Context, recipient string) ([]listed, error)
	counters(ctx context.Context, day string) (map[string]int64, error)
}

// listed is one notification of a list, the newest of which comes first.
type listed struct {
	ID          string    `json:"id"`
	Version     int64     `json:"version"`
	RequestedAt time.Time `json:"requested_at"`
}

// later is the order of a list.
func later(a, b listed) int {
	if c := b.RequestedAt.Compare(a.RequestedAt); c != 0 {
		return c
	}
	if a.ID > b.ID {
		return -1
	}
	return 1
}

// apiReader asks one node of the service. When Redis is slow the database answers,
// and may be ahead of the view that answers next: an answer that the view does not
// have by then is not counted.
type apiReader struct {
	c   *rebuildService
	url string
}

var (
	// errBusy is a 503: Redis was slow, and what only Redis knows has no answer then.
	errBusy = errors.New("nothing was done")
	// errAhead is an answer of the database that the view does not have yet.
	errAhead = errors.New("the view does not have it yet")
)

func (r *apiReader) get(ctx context.Context, path string, into any) error {
	code, body, err := r.c.call(ctx, "GET", r.url+path, "")
	switch {
	case err != nil:
	case code == http.StatusServiceUnavailable:
		err = errBusy
	case code != http.StatusOK:
		err = fmt.Errorf("%s: %d %s", path, code, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func (r *apiReader) version(ctx context.Context, id string) (int64, error) {
	var s listed
	if err := r.get(ctx, "/v1/notifications/"+id, &s); err != nil {
		return 0, err
	}
	known, err := (&rawReader{r.c}).version(ctx, id)
	if err == nil && known < s.Version {
		err = errAhead
	}
	return s.Version, err
}

func (r *apiReader) list(ctx context.Context, recipient string) ([]listed, error) {
	var body struct{ Notifications []listed }
	if err := r.get(ctx, "/v1/recipients/"+recipient+"/notifications?limit=100", &body); err != nil {
		return nil, err
	}
	known, err := (&rawReader{r.c}).list(ctx, recipient)
	if err == nil && (known == nil || wentBack(body.Notifications, known) != nil) {
		err = errAhead
	}
	return body.Notifications, err
}

func (r *apiReader) counters(ctx context.Context, day string) (map[string]int64, error) {
	var body map[string]map[string]int64
	err := r.get(ctx, "/v1/counters/"+day, &body)
	all := map[string]int64{}
	for channel, counts := range body {
		for what, n := range counts {
			if what == "failed_attempts" {
				what = "failed"
			}
			all[channel+":"+what] = n
		}
	}
	return all, err
}

// watch reads until ctx ends, and demands that nothing goes back.
func (c *rebuildService) watch(ctx context.Context, t *testing.T, name string, r viewReader, rng *rand.Rand) {
	saw := memory{versions: map[string]int64{}, lists: map[string][]listed{}}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		view := rebuiltViews[rng.IntN(len(rebuiltViews))]
		something, err := saw.look(ctx, c, view, r, rng)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errBusy), errors.Is(err, errAhead):
		case err != nil:
			t.Errorf("%s of %s: %v", name, view, err)
			return
		case something:
			c.mu.Lock()
			c.looks[name+" of "+view]++
			c.mu.Unlock()
		}
	}
}

// looksOn waits until every reader has seen something n times more.
func (c *rebuildService) awaitLooks(t *testing.T, n int) {
	t.Helper()
	c.mu.Lock()
	before := map[string]int{}
	for name, looks := range c.looks {
		before[name] = looks
	}
	c.mu.Unlock()
	require.Len(t, before, 9, "three readers of three views")
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for name, looks := range before {
			if c.looks[name] < looks+n {
				return false
			}
		}
		return true
	}, liveness, 20*time.Millisecond)
	t.Logf("looks before that: %v", before)
}

// memory is what one reader has seen.
type memory struct {
	versions map[string]int64
	lists    map[string][]listed
	counters map[string]int64
}

// look reads one view, and reports whether it answered.
func (m *memory) look(ctx context.Context, c *rebuildService, view string, r viewReader, rng *rand.Rand) (bool, error) {
	switch view {
	case "notification":
		id := c.any(rng)
		if id == "" {
			return false, nil
		}
		version, err := r.version(ctx, id)
		if err == nil && version < m.versions[id] {
			err = fmt.Errorf("%s went back from %d to %d", id, m.versions[id], version)
		}
		if err == nil {
			m.versions[id] = version
		}
		return version > 0, err
	case "recipient":
		recipient := fmt.Sprintf("live-%d", rng.IntN(4))
		list, err := r.list(ctx, recipient)
		if err == nil && list != nil {
			err = wentBack(m.lists[recipient], list)
			m.lists[recipient] = list
		}
		return len(list) > 0, err
	default:
		now, err := r.counters(ctx, c.day)
		if err != nil {
			return false, err
		}
		for what, n := range m.counters {
			if now[what] < n {
				err = fmt.Errorf("%s went back from %d to %d", what, n, now[what])
			}
		}
		m.counters = now
		return len(now) > 0, err
	}
}

// wentBack reports what a list lacks that it had: each notification is still there,
// as new as it was, or is pushed out by a hundred newer ones.
func wentBack(before, now []listed) error {
	versions := map[string]int64{}
	for _, s := range now {
		versions[s.ID] = s.Version
	}
	for _, s := range before {
		version, there := versions[s.ID]
		pushedOut := !there && len(now) == 100 && later(now[99], s) < 0
		if version < s.Version && !pushedOut {
			return fmt.Errorf("%s went back from %d to %d", s.ID, s.Version, version)
		}
	}
	return nil
}

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/test/harness"
)

// rawReader looks into Redis itself, by one script: which generation answers, and
// what it has. It shares nothing with the code that writes there.
type rawReader struct{ c *rebuildService }

var (
	rawStatus = redis.NewScript(`return redis.call('GET', 'view:notification:' .. redis.call('HGET', 'view:notification:generation', 'live') .. ':{' .. ARGV[1] .. '}') or ''`)
	rawList   = redis.NewScript(`return redis.call('HGETALL', 'view:recipient:' .. redis.call('HGET', 'view:recipient:generation', 'live') .. ':{' .. ARGV[1] .. '}')`)
	rawCounts = redis.NewScript(`
local sums = {}
local key = 'view:counters:' .. redis.call('HGET', 'view:counters:generation', 'live') .. ':' .. ARGV[1] .. ':'
for _, channel in ipairs({'email', 'sms', 'push'}) do
  for _, what in ipairs({'requested', 'sent', 'failed', 'abandoned', 'read'}) do
    local sum = 0
    for shard = 0, 15 do
      sum = sum + tonumber(redis.call('HGET', key .. shard, channel .. ':' .. what) or '0')
    end
    table.insert(sums, channel .. ':' .. what)
    table.insert(sums, tostring(sum))
  end
end
return sums`)
)

// entryOf takes an entry apart: 20 digits of version, 22 characters, JSON.
func entryOf(raw string) (version int64, body struct {
	Status      string
	RequestedAt time.Time `json:"requested_at"`
}, err error) {
	if len(raw) < 42 {
		return 0, body, errors.New("an entry is too short: " + raw)
	}
	version, err = strconv.ParseInt(raw[:20], 10, 64)
	return version, body, errors.Join(err, json.Unmarshal([]byte(raw[42:]), &body))
}

func (r *rawReader) version(ctx context.Context, id string) (int64, error) {
	raw, err := rawStatus.Run(ctx, r.c.rdb, nil, id).Text()
	if err != nil || raw == "" {
		return 0, err
	}
	version, _, err := entryOf(raw)
	return version, err
}

func (r *rawReader) list(ctx context.Context, recipient string) ([]listed, error) {
	sum := sha256.Sum256([]byte(recipient))
	flat, err := rawList.Run(ctx, r.c.rdb, nil, hex.EncodeToString(sum[:16])).StringSlice()
	if err != nil {
		return nil, err
	}
	list, complete := []listed{}, false
	for pair := range slices.Chunk(flat, 2) {
		if pair[0] == "complete" {
			complete = true
			continue
		}
		version, body, err := entryOf(pair[1])
		if err != nil {
			return nil, err
		}
		list = append(list, listed{pair[0], version, body.RequestedAt})
	}
	if !complete {
		return nil, nil
	}
	slices.SortFunc(list, later)
	return list[:min(len(list), 100)], nil
}

func (r *rawReader) counters(ctx context.Context, day string) (map[string]int64, error) {
	flat, err := rawCounts.Run(ctx, r.c.rdb, nil, day).StringSlice()
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for pair := range slices.Chunk(flat, 2) {
		if all[pair[0]], err = strconv.ParseInt(pair[1], 10, 64); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// told is what the log says by itself: plain SQL, and this small fold.
type expectedViews struct {
	versions map[string]int64
	statuses map[string]string
	lists    map[string][]listed
	counters map[string]map[string]int64 // by day
}

func (c *rebuildService) expected(t *testing.T) expectedViews {
	t.Helper()
	rows, err := c.db.DB.QueryContext(t.Context(), `
SELECT DISTINCT ON (aggregate_id) aggregate_id, split_part(event_type, '.', 2), aggregate_version, payload->>'recipient', payload->>'channel',
  (payload->>'requested_at')::timestamptz,
  count(*) FILTER (WHERE event_type = 'notification.failed') OVER (PARTITION BY aggregate_id)
FROM (SELECT *, convert_from(o.payload, 'UTF8')::json AS payload FROM (SELECT aggregate_id, event_type, aggregate_version, payload FROM outbox WHERE topic = $1) o) e (aggregate_id, event_type, aggregate_version, bytes, payload)
ORDER BY aggregate_id, aggregate_version DESC`, c.cfg.Topic)
	require.NoError(t, err)
	defer rows.Close()
	all := expectedViews{map[string]int64{}, map[string]string{}, map[string][]listed{}, map[string]map[string]int64{}}
	for rows.Next() {
		var id, kind, recipient, channel string
		var version, failures int64
		var at time.Time
		require.NoError(t, rows.Scan(&id, &kind, &version, &recipient, &channel, &at, &failures))
		all.versions[id], all.statuses[id] = version, map[string]string{"read": "sent"}[kind]
		if kind != "read" {
			all.statuses[id] = kind
		}
		all.lists[recipient] = append(all.lists[recipient], listed{id, version, at.UTC()})
		day := at.UTC().Format(time.DateOnly)
		if all.counters[day] == nil {
			all.counters[day] = map[string]int64{}
		}
		n := all.counters[day]
		n[channel+":requested"]++
		n[channel+":failed"] += failures
		if kind == "read" {
			n[channel+":sent"]++
		}
		if kind != "requested" && kind != "failed" {
			n[channel+":"+kind]++
		}
	}
	require.NoError(t, rows.Err())
	for recipient, list := range all.lists {
		slices.SortFunc(list, later)
		all.lists[recipient] = list[:min(len(list), 100)]
	}
	return all
}

// compare waits until nothing moves any more and the views have all that the log
// has, and compares the three of them, entry by entry.
func (c *rebuildService) compare(t *testing.T) {
	t.Helper()
	raw := &rawReader{c}
	var want expectedViews
	harness.Await(t, liveness, "the views say what the log says", func(ctx context.Context) error {
		want = c.expected(t)
		for id, version := range want.versions {
			if got, err := raw.version(ctx, id); err != nil || got != version {
				return fmt.Errorf("status of %s: version %d instead of %d: %w", id, got, version, err)
			}
		}
		for day, counts := range want.counters {
			got, err := raw.counters(ctx, day)
			maps.DeleteFunc(got, func(what string, n int64) bool { _, known := counts[what]; return n == 0 && !known })
			if err != nil || !maps.Equal(got, counts) {
				return fmt.Errorf("counters of %s: %v instead of %v: %w", day, got, counts, err)
			}
		}
		for recipient, list := range want.lists {
			got, err := raw.list(ctx, recipient)
			if err != nil || !slices.EqualFunc(got, list, func(a, b listed) bool {
				return a.ID == b.ID && a.Version == b.Version && a.RequestedAt.Equal(b.RequestedAt)
			}) {
				return fmt.Errorf("list of %s: %v instead of %v: %w", recipient, got, list, err)
			}
		}
		return nil
	})
	kinds := map[string]int{}
	for id, status := range want.statuses {
		kinds[status]++
		if status == "requested" {
			continue
		}
		text, err := rawStatus.Run(t.Context(), c.rdb, nil, id).Text()
		require.NoError(t, err)
		version, body, err := entryOf(text)
		require.NoError(t, err)
		if version > want.versions[id] { // it was sent again meanwhile
			continue
		}
		require.Equal(t, status, body.Status, id)
	}
	t.Logf("%d notifications: %v; counters %v", len(want.versions), kinds, want.counters)
	require.Subset(t, slices.Collect(maps.Keys(kinds)), []string{"sent", "abandoned"})
}

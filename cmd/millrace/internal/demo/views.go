package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// row is what both Postgres and Redis say of a notification.
type row struct {
	id        string
	version   int64
	recipient string
	channel   string
	subject   string
	status    string
	attempts  int
	reason    string
	requested time.Time
	changed   time.Time
}

// viewHeader is the length of the fields before an entry's JSON: 20 digits of
// version, a character, 13 digits of expiry, 8 digits more.
const viewHeader = 20 + 1 + 13 + 8

// checkViews compares every notification in Postgres with its entry in Redis,
// reading both by hand. It returns how many it checked and the wrong ones.
func (s *show) checkViews(ctx context.Context) (checked int, wrong []string, err error) {
	opt, err := redis.ParseURL(s.set.Redis)
	if err != nil {
		return 0, nil, fmt.Errorf("redis: %w", err)
	}
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	generation, err := rdb.HGet(ctx, "view:notification:generation", "live").Result()
	if err != nil {
		return 0, nil, fmt.Errorf("redis: generation of the view: %w", err)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT id, version, recipient, channel, subject, status, attempts, reason, requested_at, changed_at FROM notification`)
	if err != nil {
		return 0, nil, fmt.Errorf("read notifications: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var want row
		if err := rows.Scan(&want.id, &want.version, &want.recipient, &want.channel, &want.subject, &want.status,
			&want.attempts, &want.reason, &want.requested, &want.changed); err != nil {
			return checked, wrong, fmt.Errorf("read notifications: %w", err)
		}
		checked++
		if problem, err := differs(ctx, rdb, generation, want); err != nil {
			return checked, wrong, err
		} else if problem != "" {
			wrong = append(wrong, fmt.Sprintf("view of notification %s: %s", want.id, problem))
		}
	}
	return checked, wrong, rows.Err()
}

func differs(ctx context.Context, rdb *redis.Client, generation string, want row) (string, error) {
	raw, err := rdb.Get(ctx, "view:notification:"+generation+":{"+want.id+"}").Result()
	if errors.Is(err, redis.Nil) {
		return "is missing", nil
	}
	if err != nil {
		return "", fmt.Errorf("redis: %w", err)
	}
	if len(raw) < viewHeader {
		return "is too short", nil
	}
	version, err := strconv.ParseInt(raw[:20], 10, 64)
	if err != nil || raw[20] != 'o' {
		return "has no version or stands for nothing", nil
	}
	var body struct {
		ID, Recipient, Channel, Subject, Status, Reason string
		Attempts                                        int
		RequestedAt                                     time.Time `json:"requested_at"`
		ChangedAt                                       time.Time `json:"changed_at"`
	}
	if err := json.Unmarshal([]byte(raw[viewHeader:]), &body); err != nil {
		return "is not JSON", nil //nolint:nilerr // it is a finding, not a failure to look
	}
	got := row{body.ID, version, body.Recipient, body.Channel, body.Subject, body.Status, body.Attempts, body.Reason, body.RequestedAt, body.ChangedAt}
	return got.compare(want), nil
}

// compare names the first field in which two rows differ.
func (r row) compare(want row) string {
	switch {
	case r.version != want.version:
		return fmt.Sprintf("has version %d instead of %d", r.version, want.version)
	case r.status != want.status:
		return fmt.Sprintf("has status %q instead of %q", r.status, want.status)
	case r.attempts != want.attempts, r.reason != want.reason:
		return "has other attempts or another reason"
	case r.id != want.id, r.recipient != want.recipient, r.channel != want.channel, r.subject != want.subject:
		return "has other content"
	case !r.requested.Equal(want.requested), !r.changed.Equal(want.changed):
		return "has other times"
	}
	return ""
}

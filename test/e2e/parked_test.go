package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/test/harness"
	"github.com/millrace-go/millrace/test/lab"
)

// limit sets the size of the largest message that the topic takes.
func (p *pipe) limit(t *testing.T, bytes int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.brokers...))
	require.NoError(t, err)
	defer client.Close()
	name, value := "max.message.bytes", strconv.Itoa(bytes)
	admin := kadm.NewClient(client)
	answers, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, p.topic)
	require.NoError(t, err)
	for _, a := range answers {
		require.NoError(t, a.Err)
	}
	harness.Await(t, liveness, "the broker knows the limit", func(ctx context.Context) error {
		configs, err := admin.DescribeTopicConfigs(ctx, p.topic)
		if err != nil {
			return err
		}
		at, err := configs.On(p.topic, nil)
		if err != nil {
			return err
		}
		for _, c := range at.Configs {
			if c.Key == name && c.MaybeValue() == value {
				return nil
			}
		}
		return fmt.Errorf("it has another one than %s", value)
	})
}

// millrace runs a command on the pipe's database to its end.
func (p *pipe) millrace(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := lab.StartProgram(t, lab.ProgramConfig{Path: p.bin, Args: args, Env: []string{"MILLRACE_POSTGRES=" + p.db.DSN}})
	code = c.Wait(liveness)
	return code, c.Stdout(), c.Stderr()
}

// TestParked_TooLargeMessageWaitsForItsLimit: a message beyond the topic's
// max.message.bytes and its followers wait while other keys flow. Once the limit
// is raised and a person has them redriven, all arrive, in order.
func TestParked_TooLargeMessageWaitsForItsLimit(t *testing.T) {
	t.Parallel()
	p := newPipe(t, 2)
	p.limit(t, 20_000)
	const followers = 50
	_, err := p.db.DB.Exec(`
		SELECT outbox_append($1, k, repeat('x', CASE WHEN k = 'big' AND n = 2 THEN 100000 ELSE 100 END)::text, aggregate_version => n)
		  FROM generate_series(1, $2 + 2) n, unnest(ARRAY['big', 'small']) k`, p.topic, followers)
	require.NoError(t, err)
	relay := p.relay(t, steady...)
	p.awaitPending(t, 0, liveness)

	var parked []struct {
		Position int64
		Key      string
		Culprit  bool
		Reason   string
	}
	code, out, stderr := p.millrace(t, "parked", "list", "--json")
	require.Zero(t, code, stderr)
	require.NoError(t, json.Unmarshal([]byte(out), &parked))
	require.Len(t, parked, followers+1)
	require.True(t, parked[0].Culprit)
	require.Contains(t, parked[0].Reason, "too large")
	arrived := p.versions(t)
	require.Equal(t, []int64{1}, arrived["big"])
	require.Len(t, arrived["small"], followers+2, "the other key flows")

	code, out, _ = p.millrace(t, "parked", "redrive", "--key", "big")
	require.Zero(t, code)
	require.Contains(t, out, fmt.Sprintf("would publish %d messages of 1 key again", followers+1))
	require.Equal(t, arrived, p.versions(t))

	_, err = p.db.DB.Exec(`UPDATE outbox_parked SET attempts = 10`) // the relay itself looks again in an hour
	require.NoError(t, err)
	p.limit(t, 200_000)
	code, out, stderr = p.millrace(t, "parked", "redrive", "--key", "big", "--yes", "--note", "limit raised")
	require.Zero(t, code, stderr)
	t.Log(out)
	_, err = p.db.DB.Exec(`SELECT outbox_append($1, 'big', 'later'::text, aggregate_version => $2)`, p.topic, followers+3)
	require.NoError(t, err)
	harness.Await(t, liveness, "all have arrived", func(context.Context) error {
		if n := len(p.versions(t)["big"]); n < followers+3 {
			return fmt.Errorf("%d of %d", n, followers+3)
		}
		return nil
	})
	require.Zero(t, relay.Terminate(liveness), relay.Stderr())
	require.Zero(t, p.verify(t))
	for i, v := range p.versions(t)["big"] {
		require.EqualValues(t, i+1, v)
	}
	require.Equal(t, []string{"limit raised"}, column(t, p.db.DB, `SELECT note FROM outbox_audit WHERE actor <> 'relay'`))
}

// versions lists what is in the topic, key by key.
func (p *pipe) versions(t *testing.T) map[string][]int64 {
	t.Helper()
	all := map[string][]int64{}
	for _, r := range harness.ReadTopic(t, p.brokers, p.topic) {
		all[string(r.Key)] = append(all[string(r.Key)], number(t, r.Header("aggregate-version")))
	}
	return all
}

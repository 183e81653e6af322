package harness

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Brokers returns the addresses of the Kafka cluster that the tests of this run
// share.
func Brokers(t testing.TB) []string {
	t.Helper()
	k, err := shared.Kafka(t.Context())
	if err != nil {
		t.Fatal("harness:", err)
	}
	return k.Brokers()
}

// Topic makes a topic of the test's own on the shared cluster and returns its
// name once every partition has a leader. The topic, and those whose names are
// made of its name, a dot and more, such as its dead letters, are deleted at the
// end of the test.
func Topic(t testing.TB, partitions int) string {
	t.Helper()
	return TopicOn(t, Brokers(t), partitions)
}

// TopicOn is Topic on another cluster.
func TopicOn(t testing.TB, brokers []string, partitions int) string {
	t.Helper()
	name := uniqueName(t)
	t.Cleanup(func() { cleanKafka(t, brokers, deleteTopics, name) })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := withKafka(brokers, func(adm *kadm.Client) error { return createTopic(ctx, adm, name, partitions) })
	if err != nil {
		t.Fatal("harness: create topic:", err)
	}
	return name
}

// CreateTopic makes the topic name on the cluster and returns once every
// partition has a leader. Cleaning up is the caller's.
func CreateTopic(ctx context.Context, brokers []string, name string, partitions int) error {
	err := withKafka(brokers, func(adm *kadm.Client) error { return createTopic(ctx, adm, name, partitions) })
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	return nil
}

// Group returns a consumer group name of the test's own. On a cluster that the
// harness did not start, the group is deleted at the end of the test.
func Group(t testing.TB) string {
	t.Helper()
	name := uniqueName(t)
	t.Cleanup(func() {
		if k := shared.externalKafka(); k != nil {
			cleanKafka(t, k.brokers, deleteGroup, name)
		}
	})
	return name
}

// uniqueName is a name for topics and groups that names the test.
func uniqueName(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, t.Name())
	return name[:min(len(name), 100)] + "-" + strings.ToLower(rand.Text()[:12])
}

func withKafka(brokers []string, do func(*kadm.Client) error) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return err
	}
	defer c.Close()
	return do(kadm.NewClient(c))
}

func createTopic(ctx context.Context, adm *kadm.Client, name string, partitions int) error {
	if _, err := adm.CreateTopic(ctx, int32(partitions), -1, nil, name); err != nil {
		return err
	}
	for {
		err := topicReady(ctx, adm, name, partitions)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func topicReady(ctx context.Context, adm *kadm.Client, name string, partitions int) error {
	topics, err := adm.ListTopics(ctx, name)
	if err != nil {
		return err
	}
	topic := topics[name]
	if topic.Err != nil {
		return topic.Err
	}
	led := 0
	for _, p := range topic.Partitions {
		if p.Err == nil && p.Leader >= 0 {
			led++
		}
	}
	if led < partitions {
		return fmt.Errorf("%d of %d partitions have a leader", led, partitions)
	}
	return nil
}

// cleanKafka cleans up after a test. A broker that the test took down does not fail
// it.
func cleanKafka(t testing.TB, brokers []string, do func(context.Context, *kadm.Client, string) error, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := withKafka(brokers, func(adm *kadm.Client) error { return do(ctx, adm, name) }); err != nil {
		t.Log("harness: clean up kafka:", err)
	}
}

func deleteTopics(ctx context.Context, adm *kadm.Client, name string) error {
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	var ours []string
	for topic := range topics {
		if topic == name || strings.HasPrefix(topic, name+".") {
			ours = append(ours, topic)
		}
	}
	_, err = adm.DeleteTopics(ctx, ours...)
	return err
}

// deleteGroup deletes a group that was used, and has been left by now.
func deleteGroup(ctx context.Context, adm *kadm.Client, name string) error {
	deleted, err := adm.DeleteGroups(ctx, name)
	if errors.Is(deleted.Error(), kerr.GroupIDNotFound) {
		return nil // it was never used
	}
	return err
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/outbox/record"
)

// TopicInfo is a topic as the brokers have it. Settings that this user may not
// read are 0 or empty.
type TopicInfo struct {
	Name              string
	Partitions        int32
	Replicas          int16 // of the partition with the fewest
	Leaderless        []int32
	MinInSyncReplicas int
	MaxMessageBytes   int
	Retention         time.Duration // -1 is forever
	CleanupPolicy     string
}

// Describe returns the named topics that exist.
func (a *Admin) Describe(ctx context.Context, names ...string) (map[string]TopicInfo, error) {
	found := map[string]TopicInfo{}
	err := a.link.do(ctx, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		for _, name := range names {
			info, err := describe(admin, name)
			switch {
			case err == nil:
				found[name] = info
			case !errors.Is(err, sarama.ErrUnknownTopicOrPartition):
				return fmt.Errorf("describe topic %s: %w", name, err)
			}
		}
		return nil
	})
	return found, err
}

// Partitions returns how many partitions topic has, and ErrNoTopic if there is no
// such topic. With it an Admin is the Topics of a consumer's Router, which then
// refuses to start without its topics.
func (a *Admin) Partitions(ctx context.Context, topic string) (int, error) {
	found, err := a.Describe(ctx, topic)
	if err != nil {
		return 0, err
	}
	info, ok := found[topic]
	if !ok {
		return 0, fmt.Errorf("topic %s: %w", topic, ErrNoTopic)
	}
	return int(info.Partitions), nil
}

// describe returns one topic; the error is the broker's if there is none.
func describe(admin sarama.ClusterAdmin, name string) (TopicInfo, error) {
	topics, err := admin.DescribeTopics([]string{name})
	if err != nil {
		return TopicInfo{}, err
	}
	if len(topics) != 1 {
		return TopicInfo{}, sarama.ErrIncompleteResponse
	}
	t := topics[0]
	if t.Err != sarama.ErrNoError {
		return TopicInfo{}, t.Err
	}
	info := TopicInfo{Name: name, Partitions: int32(len(t.Partitions))}
	for i, p := range t.Partitions {
		if p.Leader < 0 {
			info.Leaderless = append(info.Leaderless, p.ID)
		}
		if r := int16(len(p.Replicas)); i == 0 || r < info.Replicas {
			info.Replicas = r
		}
	}
	return info, info.settings(admin)
}

func (t *TopicInfo) settings(admin sarama.ClusterAdmin) error {
	entries, err := admin.DescribeConfig(sarama.ConfigResource{ //nolint:staticcheck // its successor is for many topics
		Type: sarama.TopicResource, Name: t.Name,
		ConfigNames: []string{"max.message.bytes", "min.insync.replicas", "retention.ms", "cleanup.policy"},
	})
	if errors.Is(err, sarama.ErrTopicAuthorizationFailed) || errors.Is(err, sarama.ErrClusterAuthorizationFailed) {
		return nil // writing may be allowed nevertheless
	}
	if err != nil {
		return fmt.Errorf("read its settings: %w", err)
	}
	for _, e := range entries {
		n, _ := strconv.ParseInt(e.Value, 10, 64) // 0 if it is not a number
		switch e.Name {
		case "max.message.bytes":
			t.MaxMessageBytes = int(n)
		case "min.insync.replicas":
			t.MinInSyncReplicas = int(n)
		case "retention.ms":
			t.Retention = max(-1, time.Duration(n)*time.Millisecond)
		case "cleanup.policy":
			t.CleanupPolicy = e.Value
		}
	}
	return nil
}

// Finding is a problem of a topic that CheckTopics has found.
type Finding struct {
	Topic string
	// Fatal means that messages would be lost, refused or sent to another
	// partition. Otherwise it is a weakness, which may be intended.
	Fatal   bool
	Problem string
	Advice  string
}

// CheckTopics returns the problems of the named topics and their dead-letter topics.
func (a *Admin) CheckTopics(ctx context.Context, names ...string) ([]Finding, error) {
	var all []string
	for _, name := range names {
		all = append(all, name, name+record.DeadLetterSuffix)
	}
	infos, err := a.Describe(ctx, all...)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, name := range names {
		findings = append(findings, checkTopic(name, infos)...)
	}
	return findings, nil
}

func checkTopic(name string, infos map[string]TopicInfo) (findings []Finding) {
	find := func(is, fatal bool, topic, problem, advice string) {
		if is {
			findings = append(findings, Finding{topic, fatal, problem, advice})
		}
	}
	t, ok := infos[name]
	if !ok {
		find(true, true, name, "does not exist", "create it, by Admin.EnsureTopics or by hand")
		return findings
	}
	find(len(t.Leaderless) > 0, true, name, fmt.Sprintf("partitions %v have no leader", t.Leaderless), "check the brokers")
	find(t.MinInSyncReplicas > int(t.Replicas), true, name, fmt.Sprintf("min.insync.replicas %d is more than its %d replicas", t.MinInSyncReplicas, t.Replicas),
		"no write can succeed: lower it or add replicas")
	find(t.Replicas < 3, false, name, fmt.Sprintf("has %d replica(s)", t.Replicas), "give it 3, or the loss of a broker loses messages")
	find(t.Replicas >= 3 && t.MinInSyncReplicas == 1, false, name, "min.insync.replicas is 1", "set it to 2, or acknowledged messages are lost with their leader")

	dlt, ok := infos[name+record.DeadLetterSuffix]
	if !ok {
		find(true, true, name+record.DeadLetterSuffix, "does not exist", "create it with as many partitions as "+name)
		return findings
	}
	find(dlt.Partitions < t.Partitions, true, dlt.Name, fmt.Sprintf("has %d partitions, fewer than the %d of %s", dlt.Partitions, t.Partitions, name),
		"add partitions: dead letters keep their partition")
	find(dlt.MaxMessageBytes > 0 && dlt.MaxMessageBytes < t.MaxMessageBytes+deadLetterRoom, false, dlt.Name,
		fmt.Sprintf("max.message.bytes is %d", dlt.MaxMessageBytes), fmt.Sprintf("set it to %d: dead letters have more headers", t.MaxMessageBytes+deadLetterRoom))
	find(dlt.CleanupPolicy != "" && dlt.CleanupPolicy != "delete", true, dlt.Name, "cleanup.policy is "+dlt.CleanupPolicy,
		"set it to delete: compaction drops dead letters of a key")
	return findings
}

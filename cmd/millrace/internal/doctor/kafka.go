package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/millrace-go/millrace/adapters/kafka"
	"github.com/millrace-go/millrace/outbox/record"
)

// TestCluster is the cluster id of kfake, a broker for tests that keeps nothing.
const TestCluster = "kfake"

// Kafka checks the cluster behind seeds, and each of topics with its dead letter
// topic.
func Kafka(ctx context.Context, seeds, topics []string) []Check {
	r := &report{}
	cl, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.RequestRetries(1))
	if err != nil {
		r.add(Fail, "kafka", "correct --kafka", "%v", err)
		return r.checks
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	meta, err := adm.Metadata(ctx)
	if err != nil {
		r.add(Fail, "kafka", "start it, or correct --kafka; its advertised listeners must be reachable from here",
			"at %s does not answer: %v", strings.Join(seeds, ","), err)
		return r.checks
	}
	r.ok("kafka", "cluster %s, brokers: %d", meta.Cluster, len(meta.Brokers))
	r.when(IsTestCluster(meta.Cluster), Warn, "kafka keeps data", "use a real cluster; relay needs --dev with this one",
		"%s", map[bool]string{true: "no: it is an in-process test broker", false: "yes"}[IsTestCluster(meta.Cluster)])
	r.topics(ctx, seeds, topics)
	return r.checks
}

// IsTestCluster reports whether a cluster id is that of an in-process test broker.
func IsTestCluster(id string) bool { return strings.HasPrefix(id, TestCluster) }

// topics has the service's own adapter look at each topic and its dead letters,
// and says ok of those about which it says nothing. A dead-letter topic that is
// missing is no failure: who only relays needs none.
func (r *report) topics(ctx context.Context, seeds, names []string) {
	if len(names) == 0 {
		return
	}
	adm, err := kafka.NewAdmin(kafka.Config{Brokers: seeds, ClientID: "millrace-doctor"})
	if err != nil {
		r.add(Fail, "topics", "correct --kafka", "%v", err)
		return
	}
	defer adm.Close()
	all := slices.Clone(names)
	for _, name := range names {
		all = append(all, name+record.DeadLetterSuffix)
	}
	infos, err := adm.Describe(ctx, all...)
	findings, checkErr := adm.CheckTopics(ctx, names...)
	if err := errors.Join(err, checkErr); err != nil {
		r.add(Fail, "topics", "let this client describe topics", "cannot tell: %v", err)
		return
	}
	for _, f := range findings {
		grade := Warn
		if f.Fatal {
			grade = Fail
		}
		if _, there := infos[f.Topic]; !there && !slices.Contains(names, f.Topic) {
			grade, f.Advice = Warn, f.Advice+", if consumers with dead letters read it"
		}
		r.add(grade, "topic "+f.Topic, f.Advice, "%s", f.Problem)
	}
	for _, name := range names {
		if !slices.ContainsFunc(findings, func(f kafka.Finding) bool { return f.Topic == name }) {
			t := infos[name]
			r.ok("topic "+name, "%d partitions, %d replicas, min.insync.replicas %d", t.Partitions, t.Replicas, t.MinInSyncReplicas)
		}
	}
}

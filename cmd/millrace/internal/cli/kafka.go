package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// reachKafka returns an administration client after a first contact, and the
// cluster's id.
func reachKafka(ctx context.Context, brokers []string) (*kadm.Client, string, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RequestRetries(1))
	if err != nil {
		return nil, "", fmt.Errorf("kafka: %w", err)
	}
	adm := kadm.NewClient(cl)
	meta, err := adm.BrokerMetadata(ctx)
	if err != nil {
		adm.Close()
		return nil, "", fmt.Errorf("kafka at %s does not answer: %w: start it, or correct --kafka", strings.Join(brokers, ","), err)
	}
	return adm, meta.Cluster, nil
}

// groupLags sums the lag of each consumer group over the partitions of a topic;
// groups empty means all there are.
func groupLags(ctx context.Context, brokers, groups []string) ([]groupLag, error) {
	adm, _, err := reachKafka(ctx, brokers)
	if err != nil {
		return nil, err
	}
	defer adm.Close()
	lags, err := adm.Lag(ctx, groups...)
	if errors.Is(err, kerr.CoordinatorNotAvailable) {
		return nil, errors.New("kafka has no coordinator for consumer groups: either it is just starting, or no group has ever read from it: leave --groups out, or try again")
	}
	if err != nil {
		return nil, fmt.Errorf("lag of consumer groups: %w", err)
	}
	out := []groupLag{}
	for _, g := range lags.Sorted() {
		if err := g.Error(); errors.Is(err, kerr.GroupIDNotFound) {
			return nil, fmt.Errorf("there is no consumer group %s: millrace lag without --groups lists those that exist", g.Group)
		} else if err != nil {
			return nil, fmt.Errorf("lag of group %s: %w", g.Group, err)
		}
		for _, topic := range slices.Sorted(maps.Keys(g.Lag)) {
			sum := groupLag{Group: g.Group, Topic: topic, State: g.State, Members: len(g.Members)}
			for _, p := range g.Lag[topic] {
				sum.Messages += max(p.Lag, 0)
			}
			out = append(out, sum)
		}
	}
	return out, nil
}

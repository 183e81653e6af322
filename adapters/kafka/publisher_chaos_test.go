package kafka_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/millrace-go/millrace/outbox"
)

// Answers of every kind at random, callers that end in the middle, batches of any
// size: nothing is lost, and first deliveries of each key keep their order.
func TestPublisher_KeepsItsPromisesUnderRandomFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		random := rand.New(rand.NewPCG(seed, 1))
		cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(4, topic))
		require.NoError(t, err)
		pub := newPublisher(t, cluster.ListenAddrs())
		stop := torment(cluster, rand.New(rand.NewPCG(seed, 2)))
		all := numbered(topic, 6000, 40, 100)
		for todo := all; len(todo) > 0; {
			todo = attempt(t, pub, todo, random)
		}
		stop()
		requireAll(t, cluster.ListenAddrs(), topic, all)
		require.NoError(t, pub.Close())
		cluster.Close()
		if t.Failed() {
			t.Fatal("seed ", seed)
		}
	}
}

// attempt publishes entries once, with a context that may end at any moment, and
// returns those that were not acknowledged.
func attempt(t *testing.T, pub outbox.BatchPublisher, entries []outbox.Entry, random *rand.Rand) (rest []outbox.Entry) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if random.IntN(3) > 0 {
		defer time.AfterFunc(time.Duration(random.IntN(300))*time.Millisecond, cancel).Stop()
	}
	v, sent := newVerdicts(len(entries)), 0
	for sent < len(entries) && !v.wrong.Load() {
		next := min(sent+1+random.IntN(300), len(entries))
		pub.PublishBatch(ctx, entries[sent:next], v.ack(sent))
		sent = next
	}
	v.wg.Add(sent - len(entries)) // the rest was not handed over
	v.check(t, entries[:sent])
	for i := range entries {
		if i >= sent || v.errs[i] != nil {
			require.NotErrorIs(t, v.errs[i], outbox.ErrUnpublishable)
			rest = append(rest, entries[i])
		}
	}
	return rest
}

// torment makes the brokers misbehave until stop is called.
func torment(cluster *kfake.Cluster, random *rand.Rand) (stop func()) {
	codes := []*kerr.Error{kerr.NotLeaderForPartition, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
		kerr.UnknownServerError, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID}
	var wg sync.WaitGroup
	over := make(chan struct{})
	var last *kfake.FaultHandle
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(time.Duration(random.IntN(60)) * time.Millisecond):
			}
			if last != nil {
				last.Remove() // or faults would pile up faster than they are met
			}
			switch random.IntN(5) {
			case 0:
				cluster.ShufflePartitionLeaders()
			case 1:
				last = cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.LeaderNotAvailable, Count: 1 + random.IntN(5)})
			default:
				last = cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: codes[random.IntN(len(codes))], Count: 1 + random.IntN(3),
					Partitions: []int32{random.Int32N(4)}})
			}
		}
	})
	return func() {
		close(over)
		wg.Wait()
		if last != nil {
			last.Remove()
		}
	}
}

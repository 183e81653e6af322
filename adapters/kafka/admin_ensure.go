package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/topics"
	"github.com/millrace-go/millrace/outbox/record"
)

// ErrTopicDiffers is in the error of EnsureTopics for a topic that exists with
// another number of partitions.
var ErrTopicDiffers = errors.New("topic exists with another number of partitions")

func validateTopics(all []Topic) error {
	specs := make([]topics.Spec, 0, len(all))
	for _, t := range all {
		specs = append(specs, topics.Spec(t))
	}
	return topics.Validate(specs, record.DeadLetterSuffix)
}

// EnsureTopics creates the topics that are missing, each with its dead-letter
// topic of as many partitions, kept 14 days and with 64 KiB more room. It never
// changes a topic that exists. If one has another number of partitions than asked
// for, or a dead-letter topic has fewer than its source, the error is
// ErrTopicDiffers and nothing is created. Several programs may call it at once.
func (a *Admin) EnsureTopics(ctx context.Context, wanted ...Topic) error {
	if err := validateTopics(wanted); err != nil {
		return fmt.Errorf("ensure topics: %w", err)
	}
	return a.link.do(ctx, func(_ sarama.Client, admin sarama.ClusterAdmin) error {
		all, err := planTopics(admin, wanted)
		if err != nil {
			return err
		}
		var errs []error
		for _, t := range all {
			if err := ensure(ctx, admin, t); err != nil {
				errs = append(errs, fmt.Errorf("ensure topic %s: %w", t.Name, err))
			}
		}
		return errors.Join(errs...)
	})
}

// planned is a topic with the number of partitions that it has or gets.
type planned struct {
	Topic
	source string // of a dead-letter topic
}

// planTopics looks at the topics and their dead-letter topics, and returns an error
// if one of those that exist is not as asked.
func planTopics(admin sarama.ClusterAdmin, wanted []Topic) (all []planned, err error) {
	var errs []error
	plan := func(p planned) {
		all = append(all, p)
		found, there, err := look(admin, p.Name)
		if err == nil && there {
			err = p.differs(found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure topic %s: %w", p.Name, err))
		}
	}
	for _, t := range wanted {
		if t.Partitions == 0 {
			found, there, err := look(admin, t.Name)
			if err != nil {
				errs = append(errs, fmt.Errorf("ensure topic %s: %w", t.Name, err))
				continue
			}
			t.Partitions = 6
			if there {
				t.Partitions = found.Partitions
			}
		}
		plan(planned{Topic: t})
		if !t.NoDeadLetters {
			plan(planned{Topic: t.deadLetters(), source: t.Name})
		}
	}
	return all, errors.Join(errs...)
}

// look returns a topic if it exists.
func look(admin sarama.ClusterAdmin, name string) (found TopicInfo, there bool, err error) {
	found, err = describe(admin, name)
	if errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return found, false, nil
	}
	if errors.Is(err, sarama.ErrLeaderNotAvailable) && found.Partitions == 0 {
		return found, false, nil // it is being created, and is looked at again when it is there
	}
	return found, err == nil, err
}

// differs returns an error if found is not what is asked for.
func (p planned) differs(found TopicInfo) error {
	switch {
	case p.source != "" && found.Partitions < p.Partitions:
		return fmt.Errorf("%w: %d, fewer than the %d of %s: add partitions to it, as dead letters keep their partition",
			ErrTopicDiffers, found.Partitions, p.Partitions, p.source)
	case p.source == "" && found.Partitions != p.Partitions:
		return fmt.Errorf("%w: %d, not %d: adding partitions would move keys, so drain the topic and change it by hand, or ask for %d",
			ErrTopicDiffers, found.Partitions, p.Partitions, found.Partitions)
	}
	return nil
}

func ensure(ctx context.Context, admin sarama.ClusterAdmin, t planned) error {
	found, there, err := look(admin, t.Name)
	if err != nil {
		return err
	}
	if !there {
		if err := admin.CreateTopic(t.Name, t.detail(), false); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) {
			return err
		}
	}
	for { // brokers learn of a new topic a little later
		if there {
			if err := t.differs(found); err != nil || len(found.Leaderless) == 0 {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
		if found, there, err = look(admin, t.Name); err != nil {
			return err
		}
	}
}

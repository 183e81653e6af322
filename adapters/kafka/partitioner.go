package kafka

import (
	"github.com/IBM/sarama"
)

// placed is what a ProducerMessage's Metadata implements to ask for a partition.
type placed interface {
	// partition returns a negative number to be placed by key.
	partition() int32
}

// partitioner sends a message to the partition that its record asks for, if the topic
// has it, and by the murmur2 hash of its key otherwise.
type partitioner struct{ byKey sarama.Partitioner }

// newPartitioner returns the partitioner of the safe profile: the partition of
// a record.Record if the message has one and the topic is that wide, else the
// key's murmur2 hash as Java's producer computes it. A message without a key
// goes to a random partition.
func newPartitioner(topic string) sarama.Partitioner {
	return &partitioner{byKey: sarama.NewMurmur2Partitioner(topic)}
}

func explicit(msg *sarama.ProducerMessage) int32 {
	if p, ok := msg.Metadata.(placed); ok {
		return p.partition()
	}
	return -1
}

func (p *partitioner) Partition(msg *sarama.ProducerMessage, partitions int32) (int32, error) {
	if want := explicit(msg); want >= 0 && want < partitions {
		return want, nil
	}
	return p.byKey.Partition(msg, partitions)
}

func (p *partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency makes a message with a key or a partition wait for
// its partition's leader instead of moving to a partition that has one.
func (p *partitioner) MessageRequiresConsistency(msg *sarama.ProducerMessage) bool {
	return msg.Key != nil || explicit(msg) >= 0
}

// placesAsJava reports whether a partitioner puts some keys where Java puts them.
func placesAsJava(construct sarama.PartitionerConstructor) bool {
	p := construct("probe")
	if p == nil || !p.RequiresConsistency() {
		return false
	}
	for key, hash := range map[string]int32{"21": -973932308, "foobar": -790332482, "abc": 479470107} {
		const partitions = 1_000_003
		got, err := p.Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
		if err != nil || got != (hash&0x7fffffff)%partitions {
			return false
		}
	}
	return true
}

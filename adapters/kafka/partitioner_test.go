package kafka_test

import (
	"math"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"github.com/millrace-go/millrace/adapters/kafka"
)

// The hashes are those of Java's own test of Utils.murmur2.
func TestPartitioner_PlacesKeysAsJavaDoes(t *testing.T) {
	t.Parallel()
	for key, hash := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		for _, partitions := range []int32{1, 3, 12, 1000, math.MaxInt32} {
			got, err := kafka.NewPartitioner("t").Partition(&sarama.ProducerMessage{Key: sarama.StringEncoder(key)}, partitions)
			require.NoError(t, err)
			require.Equal(t, hash&math.MaxInt32%partitions, got, "%q on %d partitions", key, partitions)
		}
	}
}

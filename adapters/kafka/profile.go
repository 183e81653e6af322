package kafka

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

// Config says how to reach Kafka. Its zero values are the safe defaults.
type Config struct {
	// Brokers are the host:port addresses to start from; one at least.
	Brokers []string
	// ClientID names this program in the broker's logs and quotas.
	// Default "millrace".
	ClientID string
	// TLS encrypts the connections if it is not nil. Nil is plain text.
	TLS *tls.Config
	// SASL authenticates if its Mechanism is not empty. Default none.
	SASL SASL
	// DialTimeout bounds one connection attempt. Default 5s.
	DialTimeout time.Duration
	// RequestTimeout bounds one request and its answer, so it is also how long
	// a frozen broker goes unnoticed. Default 10s.
	RequestTimeout time.Duration
	// RetryBackoff is the first wait before a retry; waits double up to
	// MaxRetryBackoff. Default 100ms.
	RetryBackoff time.Duration
	// MaxRetryBackoff caps the waits between retries. Default 2s.
	MaxRetryBackoff time.Duration
	// Compression is "lz4", "zstd", "snappy", "gzip" or "none". On batches of
	// small JSON events zstd made half the bytes of lz4 in 1.6 times its time.
	// Default "lz4".
	Compression string
	// MaxMessageBytes is the most that one message (key, value and headers) and
	// one batch of a partition may have; a topic's own max.message.bytes lowers
	// it for that topic. Default 1,000,000, which Kafka's default admits.
	MaxMessageBytes int
	// AllowNoKey lets a Watermill message without a key go to a random
	// partition. False refuses it, because it would have no order.
	AllowNoKey bool
	// CloseTimeout is how long Publisher.Close waits for acknowledgements
	// before it gives up on them. Default 10s.
	CloseTimeout time.Duration
	// Hooks report what happens to the Publisher and to Subscribers.
	// Default: none.
	Hooks Hooks
	// Tune changes the finished Sarama configuration. Values that endanger
	// order or durability are refused afterwards. Default nil.
	Tune func(*sarama.Config)
}

// SASL mechanisms of [SASL.Mechanism].
const (
	ScramSHA512 = "SCRAM-SHA-512"
	ScramSHA256 = "SCRAM-SHA-256"
	Plain       = "PLAIN" // with TLS only
)

// SASL is how to authenticate.
type SASL struct {
	// Mechanism is ScramSHA512, ScramSHA256, Plain or "" for none.
	Mechanism string
	User      string
	Password  Secret
}

// retryMax bounds the retries of one batch: over an hour with the default
// waits. Sarama allots 32 bytes a partition for each, so it cannot be boundless.
const retryMax = 2000

func (c Config) withDefaults() Config {
	c.ClientID = cmp.Or(c.ClientID, "millrace")
	c.DialTimeout = cmp.Or(c.DialTimeout, 5*time.Second)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, 10*time.Second)
	c.RetryBackoff = cmp.Or(c.RetryBackoff, 100*time.Millisecond)
	c.MaxRetryBackoff = cmp.Or(c.MaxRetryBackoff, 2*time.Second)
	c.Compression = cmp.Or(c.Compression, "lz4")
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 10*time.Second)
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, 1_000_000)
	c.Hooks = c.Hooks.withDefaults()
	return c
}

// saramaConfig returns the safe profile as a Sarama configuration with Tune applied,
// or an error that joins everything that is wrong with the result.
func (c Config) saramaConfig() (*sarama.Config, error) {
	errs := c.check()
	c = c.withDefaults()
	sc := sarama.NewConfig()
	sc.Version = sarama.MaxVersion // only a ceiling: Sarama asks each broker what it knows
	sc.ClientID = c.ClientID
	c.connection(sc)
	c.producer(sc)
	c.consumer(sc)
	if c.Tune != nil {
		c.Tune(sc)
	}
	errs = append(errs, unsafe(sc)...)
	if len(errs) == 0 {
		if err := sc.Validate(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("kafka config: %w", errors.Join(errs...))
	}
	return sc, nil
}

// Validate returns everything that is wrong with the configuration, joined.
func (c Config) Validate() error {
	_, err := c.saramaConfig()
	return err
}

func (c Config) connection(sc *sarama.Config) {
	sc.Net.MaxOpenRequests = 1
	sc.Net.DialTimeout = c.DialTimeout
	sc.Net.ReadTimeout = c.RequestTimeout
	sc.Net.WriteTimeout = c.RequestTimeout
	sc.Net.KeepAlive = 30 * time.Second
	if c.TLS != nil {
		sc.Net.TLS.Enable, sc.Net.TLS.Config = true, c.TLS
	}
	if c.SASL.Mechanism != "" {
		sc.Net.SASL.Enable = true
		sc.Net.SASL.Mechanism = sarama.SASLMechanism(c.SASL.Mechanism)
		sc.Net.SASL.User, sc.Net.SASL.Password = c.SASL.User, string(c.SASL.Password)
		switch c.SASL.Mechanism {
		case ScramSHA256:
			sc.Net.SASL.SCRAMClientGeneratorFunc = newSCRAMClient(scram.SHA256)
		case ScramSHA512:
			sc.Net.SASL.SCRAMClientGeneratorFunc = newSCRAMClient(scram.SHA512)
		}
	}
	sc.Metadata.AllowAutoTopicCreation = false
	sc.Metadata.Retry.Max = retryMax
	sc.Metadata.Retry.BackoffFunc = func(left, most int) time.Duration { return c.backoff(most - left + 1) }
	sc.Metadata.RefreshFrequency = time.Minute
	sc.Admin.Timeout = c.RequestTimeout
}

func (c Config) producer(sc *sarama.Config) {
	sc.Producer.RequiredAcks = sarama.WaitForAll
	sc.Producer.Idempotent = true
	sc.Producer.Partitioner = newPartitioner
	sc.Producer.MaxMessageBytes = c.MaxMessageBytes
	sc.Producer.Timeout = c.RequestTimeout / 2 // the broker gives up first, with a reason
	sc.Producer.Compression = codecs[c.Compression]
	// One request for what comes together: with 0 the first message of a batch
	// leaves alone and the others wait for its answer.
	sc.Producer.Flush.Frequency = 300 * time.Microsecond
	sc.Producer.Flush.Bytes = 64 << 10
	sc.Producer.Retry.Max = retryMax
	sc.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration { return c.backoff(retries) }
	sc.Producer.Return.Successes = true // a SyncProducer demands both
	sc.Producer.Return.Errors = true
}

func (c Config) consumer(sc *sarama.Config) {
	sc.Consumer.Offsets.Initial = sarama.OffsetOldest
	sc.Consumer.IsolationLevel = sarama.ReadCommitted
	sc.Consumer.Group.ResetInvalidOffsets = false
	sc.Consumer.MaxProcessingTime = time.Minute // else a reader slower than 100 ms loses its subscription
	sc.Consumer.Return.Errors = true
}

// backoff is the wait before retry n, which counts from 1.
func (c Config) backoff(n int) time.Duration {
	d := c.RetryBackoff << min(max(n-1, 0), 16)
	if d <= 0 || d > c.MaxRetryBackoff {
		return c.MaxRetryBackoff
	}
	return d
}

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

package kafka

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"github.com/millrace-go/millrace/adapters/internal/backoff"
	"github.com/millrace-go/millrace/adapters/internal/problems"
	"github.com/millrace-go/millrace/adapters/internal/secret"
)

// Config names a Kafka cluster and how to use it. One value serves a Publisher, an
// Admin, DeadLetters and Subscribers. Brokers is required; the zero values of the
// other fields are the safe defaults.
type Config struct {
	// Brokers are the host:port addresses to start from, at least one.
	Brokers []string
	// ClientID names this program in the broker's logs and quotas.
	// Default "millrace".
	ClientID string
	// TLS encrypts the connections if it is not nil. Default: plain text.
	TLS *tls.Config
	// SASL authenticates if its Mechanism is not empty. Default: none.
	SASL SASL
	// DialTimeout bounds one connection attempt. Default 5 s.
	DialTimeout time.Duration
	// RequestTimeout bounds one request and its answer. It is also how long a
	// frozen broker goes unnoticed. Default 10 s.
	RequestTimeout time.Duration
	// RetryBackoff is the first pause before a retry; pauses double up to
	// MaxRetryBackoff. Default 100 ms.
	RetryBackoff time.Duration
	// MaxRetryBackoff is the longest pause between retries. Default 2 s.
	MaxRetryBackoff time.Duration
	// Compression is "lz4", "zstd", "snappy", "gzip" or "none". For batches
	// of small JSON events zstd needed half the bytes of lz4 and 1.6 times its CPU
	// time. Default "lz4".
	Compression string
	// MaxMessageBytes is the largest size of one message (key, value and headers)
	// and of one batch of a partition. A topic's own max.message.bytes lowers it for
	// that topic. Default 1,000,000, which fits Kafka's default.
	MaxMessageBytes int
	// AllowNoKey sends a Watermill message without a key to a random partition.
	// Default false: such a message is refused, because it would have no order.
	AllowNoKey bool
	// CloseTimeout is how long Publisher.Close waits for acknowledgements before it
	// gives up on them. Default 10 s.
	CloseTimeout time.Duration
	// Hooks report what happens to the Publisher and to Subscribers.
	// Default: none.
	Hooks Hooks
	// Tune changes the finished Sarama configuration. Values that endanger order
	// or durability are refused afterwards. Default: none.
	Tune func(*sarama.Config)
}

// SASL mechanisms of [SASL.Mechanism].
const (
	ScramSHA512 = "SCRAM-SHA-512"
	ScramSHA256 = "SCRAM-SHA-256"
	Plain       = "PLAIN" // only with TLS
)

// SASL is how a client authenticates.
type SASL struct {
	// Mechanism is ScramSHA512, ScramSHA256, Plain or "" for none.
	Mechanism string
	User      string
	Password  Secret
}

// Secret is a password. It prints, marshals and logs as "[redacted]"; string(s) is
// its value.
type Secret = secret.Text

// retryMax bounds the retries of one batch: more than an hour with the default
// pauses. Sarama allocates 32 bytes for each retry of a partition, so there must be
// a bound.
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
	var p problems.List
	c.check(&p)
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
	requireSafe(sc, &p)
	if p.Err() == nil {
		p.AddAll(sc.Validate())
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("kafka config: %w", err)
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
	sc.Metadata.Retry.BackoffFunc = func(left, limit int) time.Duration { return c.backoff(limit - left + 1) }
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
	// One request for messages that come together: with 0 the first message of a
	// batch is sent alone and the others wait for its answer.
	sc.Producer.Flush.Frequency = 300 * time.Microsecond
	sc.Producer.Flush.Bytes = 64 << 10
	sc.Producer.Retry.Max = retryMax
	sc.Producer.Retry.BackoffFunc = func(retries, _ int) time.Duration { return c.backoff(retries) }
	sc.Producer.Return.Successes = true // the publisher reads both
	sc.Producer.Return.Errors = true
}

func (c Config) consumer(sc *sarama.Config) {
	sc.Consumer.Offsets.Initial = sarama.OffsetOldest
	sc.Consumer.IsolationLevel = sarama.ReadCommitted
	sc.Consumer.Group.ResetInvalidOffsets = false
	sc.Consumer.MaxProcessingTime = time.Minute // otherwise a reader slower than 100 ms loses its subscription
	sc.Consumer.Return.Errors = true
}

// backoff is the pause before retry n, counted from 1.
func (c Config) backoff(n int) time.Duration {
	return backoff.Doubling{First: c.RetryBackoff, Max: c.MaxRetryBackoff}.After(n)
}

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

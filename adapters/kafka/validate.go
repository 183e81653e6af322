package kafka

import (
	"errors"
	"fmt"
	"net"

	"github.com/IBM/sarama"
)

// check returns what is wrong with the fields as the caller set them.
func (c Config) check() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("Brokers: is empty: give one host:port at least")
	}
	for i, addr := range c.Brokers {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			bad("Brokers[%d]: %q is no host:port", i, addr)
		}
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"DialTimeout", int64(c.DialTimeout)}, {"RequestTimeout", int64(c.RequestTimeout)},
		{"RetryBackoff", int64(c.RetryBackoff)}, {"MaxRetryBackoff", int64(c.MaxRetryBackoff)},
		{"CloseTimeout", int64(c.CloseTimeout)}, {"MaxMessageBytes", int64(c.MaxMessageBytes)},
	} {
		if f.value < 0 {
			bad("%s: is negative: give a positive value, or 0 for the default", f.name)
		}
	}
	if _, ok := codecs[c.Compression]; !ok && c.Compression != "" {
		bad(`Compression: %q is unknown: use "lz4", "zstd", "snappy", "gzip" or "none"`, c.Compression)
	}
	return append(errs, c.SASL.check()...)
}

func (s SASL) check() []error {
	switch s.Mechanism {
	case "":
		if s.User != "" || s.Password != "" {
			return []error{fmt.Errorf("SASL.Mechanism: is empty but a user or password is set: use %q", ScramSHA512)}
		}
		return nil
	case ScramSHA256, ScramSHA512, Plain:
	default:
		return []error{fmt.Errorf("SASL.Mechanism: %q is unknown: use %q, %q, or %q with TLS", s.Mechanism, ScramSHA512, ScramSHA256, Plain)}
	}
	var errs []error
	if s.User == "" {
		errs = append(errs, errors.New("SASL.User: is empty"))
	}
	if s.Password == "" {
		errs = append(errs, errors.New("SASL.Password: is empty"))
	}
	return errs
}

// unsafe returns why sc could lose or reorder messages or leak a password.
func unsafe(sc *sarama.Config) []error {
	var errs []error
	refuse := func(is bool, reason string) {
		if is {
			errs = append(errs, errors.New(reason))
		}
	}
	refuse(sc.Producer.RequiredAcks != sarama.WaitForAll,
		"Producer.RequiredAcks: must be WaitForAll: an acknowledged message dies with its leader otherwise")
	refuse(!sc.Producer.Idempotent,
		"Producer.Idempotent: must be true: a retry would duplicate and reorder")
	refuse(sc.Net.MaxOpenRequests != 1,
		"Net.MaxOpenRequests: must be 1: with more, a retried request lands behind a later one")
	refuse(sc.Producer.Retry.Max < 1,
		"Producer.Retry.Max: must be 1 or more: order is only kept by retrying")
	refuse(sc.Producer.Partitioner == nil || !placesAsJava(sc.Producer.Partitioner),
		"Producer.Partitioner: must place keys by murmur2: leave it as it is: any other puts keys where Java producers do not")
	refuse(!sc.Producer.Return.Successes || !sc.Producer.Return.Errors,
		"Producer.Return: Successes and Errors must be true: without them nothing is known to be stored")
	refuse(sc.Producer.Transaction.ID != "",
		"Producer.Transaction.ID: must be empty: the publisher sends no transactions")
	refuse(sc.Metadata.AllowAutoTopicCreation,
		"Metadata.AllowAutoTopicCreation: must be false: a misspelt topic would come to life with one partition; create topics with Admin.EnsureTopics")
	refuse(sc.Consumer.Offsets.Initial != sarama.OffsetOldest,
		"Consumer.Offsets.Initial: must be OffsetOldest: a new group would skip all that is already there")
	refuse(sc.Consumer.Group.ResetInvalidOffsets,
		"Consumer.Group.ResetInvalidOffsets: must be false: an expired offset would be skipped in silence")
	refuse(sc.Consumer.IsolationLevel != sarama.ReadCommitted,
		"Consumer.IsolationLevel: must be ReadCommitted: records of aborted transactions would be handled")
	refuse(sc.Net.SASL.Enable && !sc.Net.TLS.Enable && (sc.Net.SASL.Mechanism == "" || sc.Net.SASL.Mechanism == sarama.SASLTypePlaintext),
		"SASL.Mechanism: PLAIN without TLS sends the password readable: set TLS or use SCRAM-SHA-512")
	refuse(sc.Net.TLS.Enable && sc.Net.TLS.Config != nil && sc.Net.TLS.Config.InsecureSkipVerify && sc.Net.SASL.Enable,
		"TLS.InsecureSkipVerify: must be false with SASL: anybody could pose as the broker and take the password; set RootCAs")
	return errs
}

package kafka

import (
	"fmt"
	"net"

	"github.com/IBM/sarama"

	"github.com/millrace-go/millrace/adapters/internal/problems"
)

// check adds what is wrong with the fields as the caller set them to p.
func (c Config) check(p *problems.List) {
	p.Unless(len(c.Brokers) > 0, "Brokers", "must have at least one host:port, is empty")
	for i, addr := range c.Brokers {
		host, port, err := net.SplitHostPort(addr)
		p.Unless(err == nil && host != "" && port != "", fmt.Sprintf("Brokers[%d]", i), "must be host:port, is %q", addr)
	}
	problems.AtLeast(p, "DialTimeout", c.DialTimeout, 0)
	problems.AtLeast(p, "RequestTimeout", c.RequestTimeout, 0)
	problems.AtLeast(p, "RetryBackoff", c.RetryBackoff, 0)
	problems.AtLeast(p, "MaxRetryBackoff", c.MaxRetryBackoff, 0)
	problems.AtLeast(p, "CloseTimeout", c.CloseTimeout, 0)
	problems.AtLeast(p, "MaxMessageBytes", c.MaxMessageBytes, 0)
	_, ok := codecs[c.Compression]
	p.Unless(ok || c.Compression == "", "Compression", `must be "lz4", "zstd", "snappy", "gzip" or "none", is %q`, c.Compression)
	c.SASL.check(p)
}

func (s SASL) check(p *problems.List) {
	switch s.Mechanism {
	case "":
		p.Unless(s.User == "" && s.Password == "", "SASL.Mechanism", "must be set with a user or password, for example %q, is empty", ScramSHA512)
	case ScramSHA256, ScramSHA512, Plain:
		p.Unless(s.User != "", "SASL.User", "must not be empty")
		p.Unless(s.Password != "", "SASL.Password", "must not be empty")
	default:
		p.Unless(false, "SASL.Mechanism", "must be %q, %q, or %q with TLS, is %q", ScramSHA512, ScramSHA256, Plain, s.Mechanism)
	}
}

// requireSafe adds why sc could lose or reorder messages, or leak a password, to p.
func requireSafe(sc *sarama.Config, p *problems.List) {
	p.Unless(sc.Producer.RequiredAcks == sarama.WaitForAll, "Producer.RequiredAcks",
		"must be WaitForAll: otherwise an acknowledged message is lost with its leader")
	p.Unless(sc.Producer.Idempotent, "Producer.Idempotent",
		"must be true: otherwise a retry duplicates and reorders")
	p.Unless(sc.Net.MaxOpenRequests == 1, "Net.MaxOpenRequests",
		"must be 1: with more, a retried request arrives behind a later one")
	p.Unless(sc.Producer.Retry.Max >= 1, "Producer.Retry.Max",
		"must be at least 1, is %d: order is only kept by retrying", sc.Producer.Retry.Max)
	p.Unless(sc.Producer.Partitioner != nil && placesAsJava(sc.Producer.Partitioner), "Producer.Partitioner",
		"must be left unset: any other puts keys where Java producers do not")
	p.Unless(sc.Producer.Return.Successes && sc.Producer.Return.Errors, "Producer.Return",
		"Successes and Errors must be true: otherwise nothing is known to be stored")
	p.Unless(sc.Producer.Transaction.ID == "", "Producer.Transaction.ID",
		"must be empty: the publisher sends no transactions")
	p.Unless(!sc.Metadata.AllowAutoTopicCreation, "Metadata.AllowAutoTopicCreation",
		"must be false: a misspelt topic would be created with one partition; create topics with Admin.EnsureTopics")
	p.Unless(sc.Consumer.Offsets.Initial == sarama.OffsetOldest, "Consumer.Offsets.Initial",
		"must be OffsetOldest: a new group would skip what is already there")
	p.Unless(!sc.Consumer.Group.ResetInvalidOffsets, "Consumer.Group.ResetInvalidOffsets",
		"must be false: an expired offset would be skipped silently")
	p.Unless(sc.Consumer.IsolationLevel == sarama.ReadCommitted, "Consumer.IsolationLevel",
		"must be ReadCommitted: records of aborted transactions would be handled")
	sasl, tls := sc.Net.SASL, sc.Net.TLS
	plain := sasl.Mechanism == "" || sasl.Mechanism == sarama.SASLTypePlaintext
	p.Unless(!sasl.Enable || tls.Enable || !plain, "SASL.Mechanism",
		"must be SCRAM-SHA-512 without TLS: PLAIN without TLS sends the password in clear text")
	p.Unless(!sasl.Enable || !tls.Enable || tls.Config == nil || !tls.Config.InsecureSkipVerify, "TLS.InsecureSkipVerify",
		"must be false with SASL: anyone could pose as the broker and take the password; set RootCAs")
}

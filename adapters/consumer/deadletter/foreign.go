package deadletter

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/millrace-go/millrace/outbox/record"
)

// Prefixes of the headers by which Kafka's share groups and Kafka Connect describe
// what they give up. Their values are text, numbers in decimal.
const (
	shareGroupPrefix = "__dlq.errors."
	connectPrefix    = "__connect.errors."
)

// isForeign reports headers that describe a failure in another program's format.
func isForeign(name string) bool {
	return strings.HasPrefix(name, shareGroupPrefix) || strings.HasPrefix(name, connectPrefix)
}

// readForeign reads the headers of a share group or of Kafka Connect, if the
// dead letter has none of Spring's or ours.
func (m *Message) readForeign(bad *[]string) {
	hs := m.Record.Headers
	for _, prefix := range []string{shareGroupPrefix, connectPrefix} {
		topic, ok := last(hs, prefix+"topic")
		if !ok || m.OriginalTopic != "" {
			continue
		}
		m.OriginalTopic = string(topic)
		if partition, offset := decimal(hs, prefix+"partition", bad), decimal(hs, prefix+"offset", bad); partition >= 0 && offset >= 0 {
			m.OriginalPartition, m.OriginalOffset = int32(partition), offset
		}
		m.Group = cmp.Or(m.Group, lastText(hs, prefix+"group"), lastText(hs, prefix+"connector.name"))
		m.ErrorType = cmp.Or(m.ErrorType, lastText(hs, prefix+"exception.class.name"))
		m.Error = cmp.Or(m.Error, lastText(hs, prefix+"message"), lastText(hs, prefix+"exception.message"))
		if n := decimal(hs, prefix+"delivery.count", bad); n > 0 && m.Attempts == 0 {
			m.Attempts = int(n)
		}
		// A share group writes headers alone unless its group is configured to copy records.
		m.ValueOmitted = m.ValueOmitted || prefix == shareGroupPrefix && m.Record.Key == nil && m.Value == nil
	}
}

// decimal reads a number that must not be negative. It returns -1 if the header is
// missing or not valid.
func decimal(hs []record.Header, name string, bad *[]string) int64 {
	v, ok := last(hs, name)
	if !ok {
		return -1
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < 0 {
		*bad = append(*bad, name)
		return -1
	}
	return n
}

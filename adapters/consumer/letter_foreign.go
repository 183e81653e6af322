package consumer

import (
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

// isForeign reports headers that describe a failure in the words of others.
func isForeign(name string) bool {
	return strings.HasPrefix(name, shareGroupPrefix) || strings.HasPrefix(name, connectPrefix)
}

// readForeign reads the headers of a share group or of Kafka Connect, if the
// letter has none of Spring's or ours.
func (l *Letter) readForeign(bad *[]string) {
	hs := l.Record.Headers
	for _, prefix := range []string{shareGroupPrefix, connectPrefix} {
		topic, ok := last(hs, prefix+"topic")
		if !ok || l.OriginalTopic != "" {
			continue
		}
		l.OriginalTopic = string(topic)
		if partition, offset := decimal(hs, prefix+"partition", bad), decimal(hs, prefix+"offset", bad); partition >= 0 && offset >= 0 {
			l.OriginalPartition, l.OriginalOffset = int32(partition), offset
		}
		l.Group = firstText(l.Group, lastText(hs, prefix+"group"), lastText(hs, prefix+"connector.name"))
		l.ErrorType = firstText(l.ErrorType, lastText(hs, prefix+"exception.class.name"))
		l.Error = firstText(l.Error, lastText(hs, prefix+"message"), lastText(hs, prefix+"exception.message"))
		if n := decimal(hs, prefix+"delivery.count", bad); n > 0 && l.Attempts == 0 {
			l.Attempts = int(n)
		}
		// A share group writes headers alone unless its group is set up to copy records.
		l.ValueOmitted = l.ValueOmitted || prefix == shareGroupPrefix && l.Record.Key == nil && l.Value == nil
	}
}

// decimal reads a number that must not be negative, -1 if it is not there or not
// valid.
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

func firstText(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}

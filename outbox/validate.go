package outbox

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of a message. Kafka's own defaults are higher.
const (
	MaxTopicBytes       = 249
	MaxKeyBytes         = 1024
	MaxNameBytes        = 255 // event type, aggregate type, aggregate id
	MaxHeaders          = 64
	MaxHeaderNameBytes  = 128
	MaxHeaderValueBytes = 8 << 10
	MaxPayloadBytes     = 1_000_000 // default of WriterConfig.MaxPayloadBytes
)

// reserved headers are written by the relay or by the dead-letter tools.
var reserved = map[string]bool{
	HeaderEventID: true, HeaderEventType: true, HeaderAggregateType: true, HeaderAggregateID: true, HeaderAggregateVersion: true,
}

var reservedPrefixes = []string{"kafka_dlt-", "dlt-", "millrace-", "_watermill"}

// ReservedHeader reports whether a header name belongs to Millrace: Append refuses
// it, and the relay ignores it on rows that others wrote.
func ReservedHeader(name string) bool {
	if reserved[name] {
		return true
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// validate returns all problems of the messages, as MessageErrors.
func validate(msgs []Message, maxPayload int) error {
	var errs []error
	for i := range msgs {
		m := &msgs[i]
		bad := func(field, reason string) { errs = append(errs, &MessageError{Index: i, Field: field, Reason: reason}) }
		check(bad, "topic", checkTopic(m.Topic))
		check(bad, "key", checkText(m.Key, 1, MaxKeyBytes))
		check(bad, "type", checkText(m.Type, 0, MaxNameBytes))
		check(bad, "aggregate type", checkText(m.AggregateType, 0, MaxNameBytes))
		check(bad, "aggregate id", checkText(m.AggregateID, 0, MaxNameBytes))
		if m.AggregateVersion < 0 {
			bad("aggregate version", fmt.Sprintf("is %d: give a version from 1, or 0 for none", m.AggregateVersion))
		}
		if len(m.Payload) > maxPayload {
			bad("payload", fmt.Sprintf("has %d bytes, more than the limit of %d: store it elsewhere and send a reference", len(m.Payload), maxPayload))
		}
		checkHeaders(bad, m.Headers)
	}
	return errors.Join(errs...)
}

func check(bad func(field, reason string), field, reason string) {
	if reason != "" {
		bad(field, reason)
	}
}

func checkTopic(s string) string {
	switch {
	case s == "":
		return "is empty: name a Kafka topic"
	case len(s) > MaxTopicBytes:
		return fmt.Sprintf("has %d bytes, more than %d", len(s), MaxTopicBytes)
	case s == "." || s == "..":
		return "may not be . or .."
	}
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Sprintf("has %q at byte %d: only letters, digits, '.', '_' and '-' are allowed", c, i)
		}
	}
	return ""
}

// checkText returns what is wrong with s as a text value in Postgres and a
// header value in Kafka, or "".
func checkText(s string, minBytes, maxBytes int) string {
	switch {
	case len(s) < minBytes:
		return "is empty"
	case len(s) > maxBytes:
		return fmt.Sprintf("has %d bytes, more than %d", len(s), maxBytes)
	case strings.IndexByte(s, 0) >= 0:
		return "contains a NUL byte, which Postgres cannot store as text"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	}
	return ""
}

func checkHeaders(bad func(field, reason string), headers map[string]string) {
	if len(headers) > MaxHeaders {
		bad("headers", fmt.Sprintf("are %d, more than %d", len(headers), MaxHeaders))
	}
	for name, value := range headers {
		field := fmt.Sprintf("headers[%q]", name)
		check(bad, field, checkText(name, 1, MaxHeaderNameBytes))
		if strings.ContainsAny(name, "\r\n") {
			bad(field, "contains a line break in its name")
		}
		if ReservedHeader(name) {
			bad(field, "is reserved: it is written from the message's fields or by Millrace itself")
		}
		check(bad, field, checkText(value, 0, MaxHeaderValueBytes))
		if strings.ContainsAny(value, "\r\n") {
			bad(field, "contains a line break")
		}
	}
}

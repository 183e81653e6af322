package config

import (
	"net/url"
	"regexp"
	"strings"
)

const hidden = "xxxxx"

var keyValueSecret = regexp.MustCompile(`(?i)\b(password|sslpassword|passfile)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s&]+)`)

// Redact returns addr without its passwords, fit for logs and messages.
func Redact(addr string) string {
	if strings.Contains(addr, "://") {
		u, err := url.Parse(addr)
		if err != nil {
			return hidden
		}
		q := u.Query()
		for k := range q {
			if strings.Contains(strings.ToLower(k), "password") {
				q.Set(k, hidden)
			}
		}
		u.RawQuery = q.Encode()
		return u.Redacted()
	}
	return keyValueSecret.ReplaceAllString(addr, "${1}="+hidden)
}

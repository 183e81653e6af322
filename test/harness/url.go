package harness

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/millrace-go/millrace/test/internal/proc"
)

// parseURL parses a server's URL and checks its scheme.
func parseURL(raw string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("URL: %w", err)
	}
	if !slices.Contains(schemes, u.Scheme) || u.Host == "" {
		return nil, fmt.Errorf("URL must look like %s://host:port", schemes[0])
	}
	return u, nil
}

// withDatabase returns the postgres URL dsn with another database.
func withDatabase(dsn, database string) (string, error) {
	u, err := parseURL(dsn, "postgres", "postgresql")
	if err != nil {
		return "", err
	}
	u.Path = "/" + database
	return u.String(), nil
}

func firstField(s string) string {
	if fields := strings.Fields(s); len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

// hostOf is the host:port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// portOr is port, or a free one if it is zero.
func portOr(port int) (int, error) {
	if port != 0 {
		return port, nil
	}
	return proc.FreePort()
}

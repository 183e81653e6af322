package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Outbox is one of several outboxes.
type Outbox struct {
	Name     string // for logs, metrics and health
	Postgres string // URL
}

var (
	outboxStart = regexp.MustCompile(`^\s*(?:([A-Za-z0-9._-]{1,64})=)?postgres(?:ql)?://`)
	notOfName   = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// setOutboxes takes URLs, each perhaps with its name before it, apart at commas
// and line ends. Its errors tell them by their number: a URL may hold a password.
func setOutboxes(c *Config, v string) error {
	var errs []error
	number := map[string]int{}
	for i, item := range splitOutboxes(v) {
		o, err := parseOutbox(item)
		if err != nil {
			errs = append(errs, fmt.Errorf("number %d %w", i+1, err))
			continue
		}
		if first := number[o.Name]; first > 0 {
			errs = append(errs, fmt.Errorf("number %d and %d are both called %s: give names, as in orders=postgres://…", first, i+1, o.Name))
		}
		number[o.Name] = i + 1
		c.Outboxes = append(c.Outboxes, o)
	}
	if len(c.Outboxes) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("names no outbox: give postgres://user@host:5432/db, several separated by commas"))
	}
	return errors.Join(errs...)
}

// splitOutboxes does not mistake the comma between the hosts of one URL.
func splitOutboxes(v string) []string {
	var items []string
	for line := range strings.Lines(v) {
		fresh := true
		for _, part := range strings.Split(strings.TrimSpace(line), ",") {
			switch {
			case strings.TrimSpace(part) == "":
			case fresh || outboxStart.MatchString(part):
				items = append(items, strings.TrimSpace(part))
				fresh = false
			default:
				items[len(items)-1] += "," + part
			}
		}
	}
	return items
}

func parseOutbox(item string) (Outbox, error) {
	start := outboxStart.FindStringSubmatch(item)
	if start == nil {
		return Outbox{}, errors.New("is not a Postgres URL: give postgres://user@host:5432/db, or name=postgres://…")
	}
	o := Outbox{Name: start[1], Postgres: item}
	if o.Name != "" {
		o.Postgres = item[strings.IndexByte(item, '=')+1:]
	}
	if err := checkPostgres(o.Postgres); err != nil {
		return Outbox{}, err
	}
	if o.Name == "" {
		o.Name = outboxName(o.Postgres)
	}
	return o, nil
}

// outboxName is the database's name, with the schema's if the URL names one.
func outboxName(dsn string) string {
	name := "outbox"
	if u, err := url.Parse(dsn); err == nil {
		if db := strings.Trim(u.Path, "/"); db != "" {
			name = db
		}
		if schema, _, _ := strings.Cut(u.Query().Get("search_path"), ","); schema != "" {
			name += "." + schema
		}
	}
	name = notOfName.ReplaceAllString(name, "-")
	return name[:min(len(name), 64)]
}

package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lib/pq"
	"github.com/redis/go-redis/v9"
)

func setPostgres(c *Config, v string) error {
	c.Postgres = v
	return checkPostgres(v)
}

func setListenPostgres(c *Config, v string) error {
	c.ListenPostgres = v
	return checkPostgres(v)
}

// checkPostgres never repeats the value in an error: it may hold a password.
func checkPostgres(v string) error {
	form := "give postgres://user@host:5432/db or key=value pairs"
	if !strings.Contains(v, "=") && !strings.Contains(v, "://") {
		return errors.New("is not a Postgres address: " + form)
	}
	if strings.Contains(v, "://") {
		u, err := url.Parse(v)
		if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			return errors.New("is not a Postgres URL: " + form)
		}
	}
	if _, err := pq.NewConnector(v); err != nil {
		return errors.New("is not a Postgres address that the driver takes: " + form)
	}
	return nil
}

func setBrokers(c *Config, v string) error {
	var list []string
	var errs []error
	for _, a := range split(v) {
		if err := checkHostPort(a, false); err != nil {
			errs = append(errs, err)
			continue
		}
		list = append(list, a)
	}
	if len(list) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("names no broker: give host:port"))
	}
	c.Kafka = list
	return errors.Join(errs...)
}

func setRedis(c *Config, v string) error {
	if !strings.Contains(v, "://") {
		v = "redis://" + v
	}
	if _, err := redis.ParseURL(v); err != nil {
		return errors.New("is not a Redis URL: give redis://host:6379/0")
	}
	c.Redis = v
	return nil
}

func setListen(c *Config, v string) error {
	if err := checkHostPort(v, true); err != nil {
		return err
	}
	c.HTTP = v
	return nil
}

func setLevel(c *Config, v string) error {
	if err := c.LogLevel.UnmarshalText([]byte(v)); err != nil || !slices.Contains([]slog.Level{
		slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError,
	}, c.LogLevel) {
		return fmt.Errorf("is %q: give debug, info, warn or error", v)
	}
	return nil
}

func checkHostPort(addr string, emptyHost bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || (host == "" && !emptyHost) {
		return fmt.Errorf("has %q, which is not host:port", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("has %q, whose port is not a number up to 65535", addr)
	}
	return nil
}

var relayName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func setRelayName(c *Config, v string) error {
	if !relayName.MatchString(v) {
		return fmt.Errorf("is %q: give 1 to 64 letters, digits, dots, dashes or underscores", v)
	}
	c.RelayName = v
	return nil
}

func setOneOf(field func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("is %q: give %s", v, strings.Join(allowed, " or "))
		}
		*field(c) = v
		return nil
	}
}

func setDuration(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			return fmt.Errorf("is %q: give a duration such as 3s or 500ms", v)
		}
		if d < low || d > high {
			return fmt.Errorf("is %s: give %s to %s", short(d), short(low), short(high))
		}
		*field(c) = d
		return nil
	}
}

// short is d without minutes and seconds that are zero: 1h, not 1h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// setRetention takes a duration, or "forever" as -1.
func setRetention(c *Config, v string) error {
	if v == "forever" {
		c.Retention = -1
		return nil
	}
	return setDuration(func(c *Config) *time.Duration { return &c.Retention }, time.Second, 100*365*24*time.Hour)(c, v)
}

func setInt(field func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return fmt.Errorf("is %q: give a whole number from %d to %d", v, low, high)
		}
		*field(c) = n
		return nil
	}
}

func setBool(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("is %q: give true or false", v)
		}
		*field(c) = b
		return nil
	}
}

func setList(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = split(v)
		return nil
	}
}

// split takes a list apart at its commas and drops blanks and empty parts.
func split(v string) []string {
	var out []string
	for _, p := range strings.Split(v, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

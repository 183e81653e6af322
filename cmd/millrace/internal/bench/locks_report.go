package bench

import (
	"fmt"

	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// LocksReport is what bench locks --json prints. Its keys are part of the
// interface. Figures are medians over the rounds.
type LocksReport struct {
	Postgres float64       `json:"postgres_pairs_per_s"`
	Redis    float64       `json:"redis_pairs_per_s"`
	Rivals   []*lockResult `json:"rivals"`
	Ratios   LocksRatios   `json:"ratios"`
	Results  []*lockResult `json:"results"` // of all
	Config   LocksConfig   `json:"config"`
	Servers  servers.Names `json:"servers"`
	Machine  Machine       `json:"machine"`
}

// LocksRatios are pairs per second by those of a rival, within each round.
type LocksRatios struct {
	RedisVsRedislock   Spread `json:"redis_vs_redislock"`
	PostgresVsShedLock Spread `json:"postgres_vs_shedlock_statements"`
}

// lockResult is one store's rounds, in pairs of lock and unlock per second.
type lockResult struct {
	Name  string  `json:"name"`
	Rival bool    `json:"rival"`
	Pairs float64 `json:"pairs_per_s"` // the median
	Spread
	Milliseconds float64 `json:"ms_per_pair"` // of one worker, by the median
	Note         string  `json:"note"`
}

func (r *lockResult) add(perSecond float64) {
	r.Spread.add(round1(perSecond))
	r.Pairs = r.Median
}

func newLocksReport(b *locksBench, results []*lockResult) *LocksReport {
	rep := &LocksReport{Results: results, Config: b.cfg, Servers: b.set.Names, Machine: b.watch.stop()}
	by := map[string]*lockResult{}
	for _, r := range results {
		by[r.Name] = r
		if r.Pairs > 0 {
			r.Milliseconds = round3(1000 * float64(b.cfg.Workers) / r.Pairs)
		}
		if r.Rival {
			rep.Rivals = append(rep.Rivals, r)
		}
	}
	rep.Postgres, rep.Redis = by[namePostgresLocks].Pairs, by[nameRedisLocks].Pairs
	rep.Ratios = LocksRatios{
		RedisVsRedislock:   paired(by[nameRedisLocks].Spread, by[nameRedislock].Spread),
		PostgresVsShedLock: paired(by[namePostgresLocks].Spread, by[nameShedLock].Spread),
	}
	return rep
}

// Table is the report for people: rows of cells, the head first.
func (r *LocksReport) Table() [][]string {
	rows := [][]string{{"STORE", "PAIRS/S", "MIN", "MAX", "MS", "NOTE"}}
	n := func(f float64) string { return fmt.Sprintf("%.0f", f) }
	for _, x := range r.Results {
		rows = append(rows, []string{x.Name, n(x.Pairs), n(x.Min), n(x.Max), fmt.Sprint(x.Milliseconds), x.Note})
	}
	return rows
}

// Summary says what the table's figures are.
func (r *LocksReport) Summary() string {
	return fmt.Sprintf("lock and unlock by %d workers with a lock each, medians of %d rounds of %gs; postgres %s, redis %s; %d x %s; stolen %s\nredis : redislock %.2f   postgres : shedlock's statements %.2f",
		r.Config.Workers, r.Config.Rounds, r.Config.Seconds, r.Servers.Postgres, r.Servers.Redis, r.Machine.CPUs, r.Machine.CPU, percentText(r.Machine.StealPercent),
		r.Ratios.RedisVsRedislock.Median, r.Ratios.PostgresVsShedLock.Median)
}

func percentText(p *float64) string {
	if p == nil {
		return "unknown"
	}
	return fmt.Sprintf("%.1f%%", *p)
}

package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace-go/millrace/cmd/millrace/internal/latency"
	"github.com/millrace-go/millrace/cmd/millrace/internal/servers"
)

// CacheReport is what bench cache --json prints. Its keys are part of the
// interface. Figures are medians over the rounds, except StampedeLoads, which is
// the largest of any round.
type CacheReport struct {
	Ratios        CacheRatios    `json:"ratios"`
	StampedeLoads int            `json:"stampede_loads"`
	PutIfNewer    float64        `json:"put_if_newer_per_s"`
	NearHit       *NearHit       `json:"near_hit_us"` // null if the server cannot keep a near layer fresh
	Flush         *CacheFlush    `json:"flush"`
	Results       []*cacheResult `json:"results"`
	Stampedes     []*stormResult `json:"stampedes"`
	Config        CacheConfig    `json:"config"`
	Servers       servers.Names  `json:"servers"`
	Machine       Machine        `json:"machine"`
}

// CacheRatios are medians of the ratios within each round.
type CacheRatios struct {
	HitP50        float64 `json:"hit_p50_vs_get"`
	HitP99        float64 `json:"hit_p99_vs_get"`
	HitDecodeP50  float64 `json:"hit_p50_vs_get_decode"`
	QueryP50      float64 `json:"query_hit_p50_vs_get"`
	RedisCacheP50 float64 `json:"go_redis_cache_p50_vs_hit"`
	RedisCacheP99 float64 `json:"go_redis_cache_p99_vs_hit"`
	PutVsSet      float64 `json:"put_if_newer_vs_pipeline_set"`
}

// NearHit is the time of one read that the near layer answers, in microseconds.
type NearHit struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// cacheResult is one variant's rounds.
type cacheResult struct {
	Name      string `json:"name"`
	P50       Spread `json:"p50_us,omitzero"`
	P99       Spread `json:"p99_us,omitzero"`
	PerSecond Spread `json:"per_s"`
	Note      string `json:"note"`
}

// stormResult is one variant's rounds of a stampede.
type stormResult struct {
	Name   string `json:"name"`
	Loads  []int  `json:"loads"`
	Failed []int  `json:"failed"`
	Took   Spread `json:"took_ms"`
	Note   string `json:"note"`
}

func newCacheResult(name, note string) *cacheResult { return &cacheResult{Name: name, Note: note} }

// times adds a round whose observations are of so many reads each.
func (r *cacheResult) times(l *latency.Recorder, each int) {
	us := func(d time.Duration) float64 { return round3(float64(d.Nanoseconds()) / 1000 / float64(each)) }
	p50 := us(l.Quantile(0.5))
	r.P50.add(p50)
	r.P99.add(us(l.Quantile(0.99)))
	r.PerSecond.add(round1(1e6 / max(p50, 0.001)))
}

// last tells the last round.
func (r *cacheResult) last() string {
	return fmt.Sprintf("p50 %8.2f us  p99 %8.2f us", r.P50.lastRound(), r.P99.lastRound())
}

func (s *Spread) lastRound() float64 {
	if len(s.Rounds) == 0 {
		return 0
	}
	return s.Rounds[len(s.Rounds)-1]
}

// storm returns the result of that name.
func (b *cacheBench) storm(name, note string) *stormResult {
	for _, s := range b.storms {
		if s.Name == name {
			return s
		}
	}
	s := &stormResult{Name: name, Note: note}
	b.storms = append(b.storms, s)
	return s
}

func newCacheReport(b *cacheBench) *CacheReport {
	rep := &CacheReport{Results: append(b.results, b.puts...), Stampedes: b.storms, Flush: b.flushed, Config: b.cfg, Servers: b.set.Names, Machine: b.watch.stop()}
	by := map[string]*cacheResult{}
	for _, r := range rep.Results {
		by[r.Name] = r
	}
	get, decode, hit, rival := by[nameGet], by[nameGetDecode], by[nameHit], by[nameRedisCache]
	rep.Ratios = CacheRatios{
		HitP50: paired(hit.P50, get.P50).Median, HitP99: paired(hit.P99, get.P99).Median,
		HitDecodeP50: paired(hit.P50, decode.P50).Median, QueryP50: paired(by[nameQueryHit].P50, get.P50).Median,
		RedisCacheP50: paired(rival.P50, hit.P50).Median, RedisCacheP99: paired(rival.P99, hit.P99).Median,
		PutVsSet: paired(by[namePutNewer].PerSecond, by[namePipelineSet].PerSecond).Median,
	}
	rep.PutIfNewer = by[namePutNewer].PerSecond.Median
	rep.StampedeLoads = slices.Max(b.storm(nameStampede, "").Loads)
	if b.near != nil {
		rep.NearHit = &NearHit{P50: b.near.P50.Median, P99: b.near.P99.Median}
	}
	return rep
}

// Table is the report for people: rows of cells, the head first.
func (r *CacheReport) Table() [][]string {
	rows := [][]string{{"NAME", "P50 US", "P99 US", "P99 MIN", "P99 MAX", "PER S", "LOADS", "NOTE"}}
	us := func(s Spread, f float64) string {
		if len(s.Rounds) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.2f", f)
	}
	for _, x := range r.Results {
		rows = append(rows, []string{x.Name, us(x.P50, x.P50.Median), us(x.P99, x.P99.Median), us(x.P99, x.P99.Min), us(x.P99, x.P99.Max), fmt.Sprintf("%.0f", x.PerSecond.Median), "-", x.Note})
	}
	for _, x := range r.Stampedes {
		rows = append(rows, []string{x.Name, "-", "-", "-", "-", "-", fmt.Sprint(x.Loads), fmt.Sprintf("%d %s, %.0f ms", r.Config.Readers, x.Note, x.Took.Median)})
	}
	f := r.Flush
	rows = append(rows, []string{nameFlush, "-", fmt.Sprintf("%.0f", 1000*f.P99), "-", "-", fmt.Sprint(r.Config.FlushRate), fmt.Sprint(f.Loads), fmt.Sprintf(
		"%d requests for %d keys while Redis lost all %d times: %d failed, at most %d loads of %s at once", f.Requests, flushKeys, f.Flushes, f.Failed, f.PeakLoads, flushLoad)})
	return rows
}

// Summary says what the table's figures are.
func (r *CacheReport) Summary() string {
	return fmt.Sprintf("one reader, %d reads of each, %d keys, about %d bytes, medians of %d rounds; redis %s; %d x %s; stolen %s\nhit : get %.2f (p50) %.2f (p99)   go-redis/cache : hit %.2f (p50)   put-if-newer : set %.2f",
		r.Config.Reads, r.Config.Keys, r.Config.Payload, r.Config.Rounds, r.Servers.Redis, r.Machine.CPUs, r.Machine.CPU, percentText(r.Machine.StealPercent),
		r.Ratios.HitP50, r.Ratios.HitP99, r.Ratios.RedisCacheP50, r.Ratios.PutVsSet)
}

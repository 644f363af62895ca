// Package enrich has the code of docs/operators/enrich.md.
package enrich

import (
	"errors"
	"time"

	"github.com/millrace-stream/millrace/flow"
	"github.com/millrace-stream/millrace/flow/codec"
	"github.com/millrace-stream/millrace/operators"
	"github.com/millrace-stream/millrace/sources/lookup/file"
	"github.com/millrace-stream/millrace/sources/lookup/http"
	"github.com/millrace-stream/millrace/sources/lookup/redis"
	"github.com/millrace-stream/millrace/sources/lookup/sql"
)

// Reading is what devices send.
type Reading struct {
	Device  string  `json:"device"`
	Celsius float64 `json:"celsius"`
}

func (r Reading) device() string { return r.Device }

// [place]

// Place is a row of the table places: its columns are device, site, floor and max_celsius.
type Place struct {
	Site  string
	Floor int
	Max   *float64 `db:"max_celsius"` // may be NULL
}

// [join]

// Placed is a reading with what is known of its device.
type Placed struct {
	Reading
	Place
}

func place(r Reading, with Place, found bool) (Placed, error) {
	if !found {
		return Placed{}, errors.New("unknown device") // to the dead letters
	}
	return Placed{r, with}, nil
}

// [sql]
func fromSQL(readings flow.Stream[Reading]) (flow.Stream[Placed], error) {
	places, err := sql.New[string, Place](sql.Config{
		Dialect: sql.Postgres, Address: "127.0.0.1:15432", Database: "millrace", User: "millrace", Password: "mill-race",
		Table: "places", Key: "device",
	})
	if err != nil {
		return nil, err
	}
	return operators.Enrich(readings, "place", places, Reading.device, place,
		operators.Cache(10*time.Minute, 100_000)), nil
}

// [options]
func patient(readings flow.Stream[Reading], places operators.Lookup[string, Place]) flow.Stream[Placed] {
	return operators.Enrich(readings, "place", places, Reading.device, place,
		operators.Cache(10*time.Minute, 100_000),
		operators.NegativeTTL(30*time.Second), // a device that is added is found half a minute later
		operators.StaleFor(6*time.Hour),       // known devices do not notice an outage of six hours
		operators.CircuitBreaker(5, 10*time.Second),
		operators.FallbackValue(Place{Site: "unknown"}), // for unknown devices during an outage
		operators.Attempts(2),
		operators.Timeout(2*time.Second),
		operators.Unordered())
}

// [query]
func byQuery() (*sql.Lookup[string, string], error) {
	return sql.New[string, string](sql.Config{
		Dialect: sql.Postgres, Address: "127.0.0.1:15432", Database: "millrace", User: "millrace", Password: "mill-race",
		Query: "SELECT d.id, s.name FROM devices d JOIN sites s ON s.id = d.site WHERE d.id = ANY({keys})",
	})
}

// [redis]
func fromRedis() (*redis.Lookup[string, Place], error) {
	return redis.Values[string](redis.Config{
		Addresses: []string{"127.0.0.1:16379"}, Prefix: "place:",
	}, codec.JSON[Place]())
}

// [http]
func fromHTTP() (*http.Lookup[string, Place], error) {
	return http.Get[string](http.Config{
		URL: "https://sites.example.com/devices/{key}", Token: "from your vault",
	}, codec.JSON[Place]())
}

// [file]

// Site is a row of sites.csv, whose columns are site and name.
type Site struct {
	ID   string `csv:"site"`
	Name string
}

func siteID(s Site) string { return s.ID }

func named(s Site) error {
	if s.Name == "" {
		return errors.New("the site has no name")
	}
	return nil
}

func fromFile(path string) (*file.Table[string, Site], error) {
	return file.New(file.Config{Path: path}, siteID, file.Check(named))
}

// [end]

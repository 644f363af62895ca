package iot

import "fmt"

// Site is what the platform knows about a place where devices stand.
type Site struct {
	Name   string
	Region string
}

// UnknownRegion is the region of readings whose site is not in the table.
const UnknownRegion = "unknown"

// SiteCount is how many sites the simulated world has.
const SiteCount = 40

var regions = [...]string{"north", "east", "south", "west"}

// SiteName is the name of the simulated world's n-th site.
func SiteName(n int) string { return fmt.Sprintf("site-%03d", n%SiteCount) }

// Sites is the simulated world's table of sites by name. One in ten is missing from it, as in real tables.
func Sites() map[string]Site {
	sites := make(map[string]Site, SiteCount)
	for n := range SiteCount {
		if n%10 != 7 {
			sites[SiteName(n)] = Site{Name: SiteName(n), Region: regions[n%len(regions)]}
		}
	}
	return sites
}

// RegionOf is the region that readings of a site get.
func RegionOf(sites map[string]Site, site string) string {
	if s, ok := sites[site]; ok {
		return s.Region
	}
	return UnknownRegion
}

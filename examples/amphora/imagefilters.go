package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/image"
)

const imageFilterUsage = "Filter by `condition`: dangling=true, label=KEY[=VALUE], label!=KEY[=VALUE], reference=PATTERN, before=IMAGE, since=IMAGE, until=TIME, size>SIZE, size<SIZE"

// imageFilters reads conditions as `docker images` has them, and a size.
func imageFilters(filters []string) (*image.ListOptions, error) {
	o := &image.ListOptions{}
	for _, f := range filters {
		if i := strings.IndexAny(f, "<>"); i > 0 && f[:i] == "size" {
			n, err := parseBytes(f[i+1:])
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", f, err)
			}
			if f[i] == '>' {
				o.MinSize = n + 1
			} else {
				o.MaxSize = n - 1
			}
			continue
		}
		key, v, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("filter %q: want KEY=VALUE", f)
		}
		switch key {
		case "dangling":
			yes, err := strconv.ParseBool(v)
			if err != nil {
				return nil, fmt.Errorf("filter %q: want true or false", f)
			}
			o.Dangling, o.Named = yes, !yes
		case "label":
			o.Labels = append(o.Labels, v)
		case "label!":
			o.Labels = append(o.Labels, "!"+v)
		case "reference":
			o.References = append(o.References, v)
		case "before":
			o.Before = v
		case "since":
			o.Since = v
		case "until":
			t, err := parseTime(v)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", f, err)
			}
			o.CreatedBefore = t
		default:
			return nil, fmt.Errorf("unknown filter %q: use dangling, label, reference, before, since, until or size", key)
		}
	}
	return o, nil
}

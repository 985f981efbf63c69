package amphora_test

import (
	"testing"

	"github.com/amphora-go/amphora"
)

func TestEventFilter(t *testing.T) {
	box := &amphora.Event{Type: "container", Action: "health_status: healthy", ID: "abcdef0123", Attributes: map[string]string{"name": "web", "image": "nginx", "tier": "one"}}
	img := &amphora.Event{Type: "image", Action: "pull", ID: "sha256:0123abcd", Attributes: map[string]string{"name": "nginx"}}
	for _, c := range []struct {
		f        *amphora.EventFilter
		box, img bool
	}{
		{nil, true, true},
		{&amphora.EventFilter{}, true, true},
		{&amphora.EventFilter{Types: []string{"image", "volume"}}, false, true},
		{&amphora.EventFilter{Actions: []string{"health_status"}}, true, false},
		{&amphora.EventFilter{Actions: []string{"health_status: unhealthy", "pull"}}, false, true},
		{&amphora.EventFilter{Labels: []string{"tier", "name=web"}}, true, false},
		{&amphora.EventFilter{Labels: []string{"tier=two"}}, false, false},
		{&amphora.EventFilter{Containers: []string{"web"}}, true, false},
		{&amphora.EventFilter{Containers: []string{"abc"}, Types: []string{"image"}}, false, false},
		{&amphora.EventFilter{Images: []string{"nginx"}}, true, true},
		{&amphora.EventFilter{Images: []string{"0123"}}, false, true},
		{&amphora.EventFilter{Networks: []string{"web"}, Volumes: []string{"web"}}, false, false},
		{&amphora.EventFilter{Containers: []string{""}}, false, false},
	} {
		if c.f.Match(box) != c.box || c.f.Match(img) != c.img {
			t.Errorf("%+v: %v, %v", c.f, c.f.Match(box), c.f.Match(img))
		}
	}
}

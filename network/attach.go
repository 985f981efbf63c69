package network

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/amphora-go/amphora/internal/attachment"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
)

// Attach connects any network namespace to networks: one interface for each
// endpoint, eth0 and up, the loopback interface set up, a default route by the
// endpoint of the highest priority. id names the namespace in messages and is
// its name on the networks, beside the endpoints' aliases. netns is a path such
// as /run/netns/blue or /proc/123/ns/net.
//
// Nobody resolves names inside the namespace: that is what containers'
// supervisors do. After a failure nothing is attached. The connections stay
// until Detach; those of a namespace that is gone are taken back by Recover.
func (m *Manager) Attach(ctx context.Context, id, netns string, endpoints ...Endpoint) ([]Attachment, error) {
	all, err := m.attach(ctx, id, netns, endpoints)
	if err != nil {
		return nil, fault.New("network attach", id, err)
	}
	return all, nil
}

func (m *Manager) attach(ctx context.Context, id, netns string, endpoints []Endpoint) (_ []Attachment, err error) {
	if err := record.CheckName(id); err != nil {
		return nil, err
	}
	if record.IsID(id) {
		return nil, fault.Invalid("the name %s looks like a container's id: use Container.Connect for containers", id)
	}
	have, err := m.s.Attached(id)
	if err != nil {
		return nil, err
	}
	var made []Attachment
	var done []*attachment.Attachment
	defer func() {
		for _, a := range done {
			if err != nil {
				err = errors.Join(err, m.s.Detach(context.WithoutCancel(ctx), a, netns))
			}
		}
	}()
	endpoints = slices.Clone(endpoints)
	slices.SortStableFunc(endpoints, func(a, b Endpoint) int { return b.Priority - a.Priority })
	for _, e := range endpoints {
		if err := e.Validate(); err != nil {
			return nil, err
		}
		if !e.Own() {
			return nil, fault.Invalid("network %s: a namespace that exists can only be attached to networks", e.Network)
		}
		n, err := m.find(ctx, e.Network)
		if err != nil {
			return nil, fault.New("network", e.Network, fault.Opaque(err))
		}
		e.Network = n.Name
		all := slices.Concat(have, done)
		w := &networks.Want{Endpoint: e.Record(), ID: id, NetNS: netns, Interface: networks.FreeInterface(all), Metric: networks.NextMetric(all),
			Names: append([]string{id}, e.Aliases...)}
		for _, a := range all {
			if a.Network == n.Name {
				return nil, fault.Kind(fs.ErrExist, "%s is attached to network %s already", id, n.Name)
			}
		}
		a, err := m.s.Attach(ctx, w)
		if err != nil {
			return nil, err
		}
		done = append(done, a)
		made = append(made, newAttachment(a))
	}
	return made, nil
}

// Detach ends connections that Attach made: those to the given networks, or
// all. It is no error if there are none.
func (m *Manager) Detach(ctx context.Context, id string, networks ...string) error {
	all, err := m.s.Attached(id)
	for _, a := range all {
		if a.Container {
			err = errors.Join(err, fault.Invalid("%s is a container: use Container.Disconnect", record.Short(id)))
			break
		}
		if len(networks) == 0 || slices.Contains(networks, a.Network) {
			err = errors.Join(err, m.s.Detach(ctx, a, a.Path))
		}
	}
	return fault.New("network detach", id, err)
}

"""Expands main.bicep for every choice of network and Event Hub, and says what would not work."""

import itertools
import json
from pathlib import Path

from bicep import Wrong
from expansion import Template

MAIN = Path(__file__).resolve().parent / "main.bicep"
OURS = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups"
NETWORK = f"{OURS}/ours/providers/Microsoft.Network/virtualNetworks/ours"
PUBLIC = {"kind": "public"}
NEW = {"kind": "new", "addressPrefix": "10.111.0.0/24", "appSubnetPrefix": "10.111.0.0/26",
       "endpointSubnetPrefix": "10.111.0.64/26"}
EXISTING = {"kind": "existing", "appSubnetId": f"{NETWORK}/subnets/app", "endpointSubnetId": f"{NETWORK}/subnets/endpoints"}
ZONES = f"{OURS}/zones"
NETWORKS = [PUBLIC, NEW, NEW | {"peerPrefixes": ["10.0.0.0/16"]}, EXISTING, EXISTING | {"privateZonesGroupId": ZONES}]
HALF = [{"kind": "existing", "appSubnetId": EXISTING["appSubnetId"]}, PUBLIC | {"appSubnetId": EXISTING["appSubnetId"]},
        {"kind": "new", "addressPrefix": "10.111.0.0/24"}, {"kind": "vnet"}, {}]
HUB = f"{OURS}/pipeline/providers/Microsoft.EventHub/namespaces/shop/eventhubs/changes"
HUBS = [{}, {"existingEventHubId": HUB}, {"existingEventHubId": HUB, "existingEventHubPrivate": True}]
OTHERS = [{}, {"operatorPrefixes": ["203.0.113.7"], "consumerPrefixes": ["198.51.100.0/24"], "alertEmail": "a@example.com",
               "sourceServerId": f"{OURS}/production/providers/Microsoft.DBforPostgreSQL/flexibleServers/shop"}]
# Which of its services each closed resource must be reached by.
SERVICES = {
    "Microsoft.Storage/storageAccounts": {"blob", "queue", "table"},
    "Microsoft.KeyVault/vaults": {"vault"},
    "Microsoft.EventHub/namespaces": {"namespace"},
}
# learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
LONGEST = {
    "Microsoft.Storage/storageAccounts": 24, "Microsoft.KeyVault/vaults": 24, "Microsoft.EventHub/namespaces": 50,
    "Microsoft.Web/sites": 60, "Microsoft.Web/serverfarms": 60, "Microsoft.Network/virtualNetworks": 64,
    "Microsoft.Network/privateEndpoints": 64, "Microsoft.OperationalInsights/workspaces": 63,
}


def of(made, kind):
    return [resource for resource in made if resource.type == kind]


def endpoints(made):
    """(id of the resource, its service, subnet, private DNS zone) of each private endpoint."""
    zones = {group.id.rsplit("/privateDnsZoneGroups/", 1)[0]: group for group in of(made, "Microsoft.Network/privateEndpoints/privateDnsZoneGroups")}
    for endpoint in of(made, "Microsoft.Network/privateEndpoints"):
        subnet = endpoint.body["properties"]["subnet"]["id"]
        [connection] = endpoint.body["properties"]["privateLinkServiceConnections"]
        group = zones.get(endpoint.id)
        configured = group.body["properties"]["privateDnsZoneConfigs"] if group else []
        zone = configured[0]["properties"]["privateDnsZoneId"] if configured else None
        yield connection["properties"]["privateLinkServiceId"], connection["properties"]["groupIds"][0], subnet, zone


def is_closed(resource):
    properties = resource.body.get("properties", {})
    return properties.get("publicNetworkAccess") == "Disabled" or properties.get("networkAcls", {}).get("defaultAction") == "Deny"


def faults(given, sources=None):
    """What is wrong with the resources that main.bicep makes for these parameters."""
    try:
        template = Template(MAIN, given, sources=sources)
    except Wrong as wrong:
        return [str(wrong)]
    made, network = template.made, given["network"]
    found = []
    ids = [resource.id for resource in made if "/diagnosticSettings" not in resource.type]
    found += [f"{twice} is made twice" for twice in sorted({one for one in ids if ids.count(one) > 1})]
    found += [f"the name {r.name} is too long" for r in made if len(r.name) > LONGEST.get(r.type, 90)]

    private = network["kind"] != "public"
    reached = {}
    made_zones = {zone.id for zone in of(made, "Microsoft.Network/privateDnsZones")}
    linked = {link.id.rsplit("/virtualNetworkLinks/", 1)[0]: link.body["properties"]["virtualNetwork"]["id"]
              for link in of(made, "Microsoft.Network/privateDnsZones/virtualNetworkLinks")}
    subnets = {f"{net.id}/subnets/{subnet['name']}" for net in of(made, "Microsoft.Network/virtualNetworks")
               for subnet in net.body["properties"]["subnets"]}
    zones_group = network.get("privateZonesGroupId")
    for target, service, subnet, zone in endpoints(made):
        reached.setdefault(target, set()).add(service)
        if subnet not in (subnets if network["kind"] == "new" else {network.get("endpointSubnetId")}):
            found.append(f"the endpoint of {target} is in {subnet or 'no subnet'}, which there is not")
        if zones_group and not (zone or "").startswith(f"{zones_group}/"):
            found.append(f"the endpoint of {target} is named in {zone}, not in a zone of {zones_group}")
        if not zones_group and (zone not in made_zones or linked.get(zone) != subnet.split("/subnets/")[0]):
            found.append(f"the endpoint of {target} is named in {zone}, which its network does not know")
    for resource in made:
        # Says of the namespace what the namespace says itself.
        if resource.type.endswith("/networkRuleSets"):
            continue
        services = SERVICES.get(resource.type, set())
        missing = services - reached.get(resource.id, set())
        if is_closed(resource) and (missing or not services):
            found.append(f"{resource.type} takes nothing from the internet and has no endpoint for {sorted(missing)}")
        if services and is_closed(resource) != private and not given.get("operatorPrefixes"):
            found.append(f"{resource.type} is {'closed' if is_closed(resource) else 'open'} in a network of kind {network['kind']}")
    if not private and (reached or made_zones or subnets):
        found.append("a public network has endpoints, zones or subnets")
    if zones_group and made_zones:
        found.append("zones are made although the network has its own")
    if given.get("existingEventHubPrivate") and private and HUB.rsplit("/eventhubs/", 1)[0] not in reached:
        found.append("the existing Event Hub has no endpoint")
    [app] = of(made, "Microsoft.Web/sites")
    subnet = app.body["properties"]["virtualNetworkSubnetId"]
    if private and subnet not in (subnets if network["kind"] == "new" else {network.get("appSubnetId")}):
        found.append(f"the app is in {subnet or 'no subnet'}, which there is not")
    if not private and subnet:
        found.append("the app is in a subnet of a public network")
    return found + out_of_order(template)


def refused(network):
    try:
        Template(MAIN, {"network": network})
    except Wrong as wrong:
        return "network" in str(wrong)
    return False


def out_of_order(template):
    """Modules that name what another one makes, by a computed id, and do not wait for it."""
    needs = {module.name: module.needs for module in template.modules}

    def waits(module, other):
        return other in needs.get(module, ()) or any(waits(one, other) for one in needs.get(module, ()))

    found = []
    for module, other in itertools.permutations(template.modules, 2):
        text = json.dumps([resource.body for resource in module.resources])
        names = [r.id for r in other.resources if f'"{r.id}"' in text or f'"{r.id}/' in text]
        if names and not waits(module.name, other.name):
            found.append(f"the module {module.name} uses {names[0]} and does not wait for {other.name}")
    return found


def check(problems):
    for network, hub, others in itertools.product(NETWORKS, HUBS, OTHERS):
        given = {"network": network} | hub | others
        problems.extend(f"main.bicep with {json.dumps(given)}: {fault}" for fault in faults(given))
    problems.extend(f"main.bicep takes half a choice: {json.dumps(half)}" for half in HALF if not refused(half))
    # A check that finds nothing in a broken template proves nothing.
    for file, old, new, word in (
        ("modules/vault.bicep", "'private_endpoint.bicep' = if (private)", "'private_endpoint.bicep' = if (!private)", "has no endpoint"),
        ("modules/storage.bicep", "['blob', 'queue', 'table']", "['blob', 'queue']", "has no endpoint for ['table']"),
        ("modules/event_hub.bicep", "privatelink.servicebus", "privatelink.eventhub", "does not know"),
        ("modules/app.bicep", "empty(appSubnetId) ? null : appSubnetId", "null", "the app is in no subnet"),
        ("main.bicep", "  dependsOn: [virtualNetwork, zones]\n", "", "does not wait for"),
        ("main.bicep", "    endpointSubnetId: endpointSubnetId\n", "    endpointSubnetId: monitoring.outputs.workspaceId\n", "known only while Azure deploys"),
    ):
        path = MAIN.parent / file
        whole = path.read_text()
        if word not in " ".join(faults({"network": NEW}, {path: whole.replace(old, new)})):
            problems.append(f"networks.py: {file} without {old.strip()!r} passes")

// Admits one public address to a server in public mode. The rule goes with the server. It may take
// five minutes to hold: learn.microsoft.com/azure/postgresql/network/concepts-networking-public

param serverName string
param address string

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  name: serverName
}

resource rule 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = {
  parent: server
  name: 'deltacompare-operator'
  properties: { startIpAddress: address, endIpAddress: address }
}

// Restores a flexible server twice: base to when the slot was lost, head to when it was back. Both
// come with the source's tier, size and network mode (public, or the same virtual network); that
// cannot be chosen. A restore has none of the source's firewall rules: in public mode nobody reaches
// it before a rule is made. Use scripts/restore, which checks the two moments first and asks only for
// servers that do not exist: a restore that is deployed twice fails.
// learn.microsoft.com/azure/postgresql/backup-restore/concepts-backup-restore

targetScope = 'resourceGroup'

import { tagsType } from 'types.bicep'

@description('The server that lost its slot.')
param sourceServerId string

@description('Its region.')
param location string = 'centralindia'

param baseServerName string
param headServerName string

@description('In UTC, as 2026-01-31T09:30:00Z. Base: at or before the lost slot\'s last confirmed change. Head: at or after the new slot\'s creation.')
param baseTime string
param headTime string

@description('false for a server that exists.')
param createBase bool = true
param createHead bool = true

@description('The public address that the operator connects from, for servers in public mode: both admit it. Empty: no rule.')
param operatorAddress string = ''

param tags tagsType = {}

var disposable = union(tags, {
  project: 'deltacompare'
  disposable: 'true'
  restoredFrom: last(split(sourceServerId, '/'))
})

module base 'modules/restored_server.bicep' = if (createBase) {
  params: {
    name: baseServerName
    location: location
    tags: union(disposable, { role: 'base', restoredTo: baseTime })
    sourceServerId: sourceServerId
    time: baseTime
  }
}

module head 'modules/restored_server.bicep' = if (createHead) {
  params: {
    name: headServerName
    location: location
    tags: union(disposable, { role: 'head', restoredTo: headTime })
    sourceServerId: sourceServerId
    time: headTime
  }
}

module operatorOnBase 'modules/operator_rule.bicep' = if (!empty(operatorAddress)) {
  params: { serverName: baseServerName, address: operatorAddress }
  dependsOn: [base]
}

module operatorOnHead 'modules/operator_rule.bicep' = if (!empty(operatorAddress)) {
  params: { serverName: headServerName, address: operatorAddress }
  dependsOn: [head]
}

output baseHost string = '${baseServerName}.postgres.database.azure.com'
output headHost string = '${headServerName}.postgres.database.azure.com'

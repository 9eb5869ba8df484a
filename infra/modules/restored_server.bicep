// One point-in-time restore, in the source's own network.

import { tagsType } from '../types.bicep'

param name string
param location string
param tags tagsType
param sourceServerId string
param time string

var sourceParts = split(sourceServerId, '/')

resource source 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  scope: resourceGroup(sourceParts[2], sourceParts[4])
  name: sourceParts[8]
}

resource restored 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    createMode: 'PointInTimeRestore'
    sourceServerResourceId: sourceServerId
    pointInTimeUTC: time
    network: {
      delegatedSubnetResourceId: source.properties.network.?delegatedSubnetResourceId
      privateDnsZoneArmResourceId: source.properties.network.?privateDnsZoneArmResourceId
    }
  }
}
